"""The hardware: chips and buses. Knows no process, no ring, no hypervisor."""
