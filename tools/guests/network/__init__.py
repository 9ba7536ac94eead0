"""Guests on a network: a driver of the 82540EM, and a stack of ARP, IPv4, ICMP, UDP and iperf."""
