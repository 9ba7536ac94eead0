"""Ways to run a guest: two processes, or all in one."""
