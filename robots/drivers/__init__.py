"""Robot drivers, one file each; chosen by name through the entry points `cell.robot_drivers`."""
