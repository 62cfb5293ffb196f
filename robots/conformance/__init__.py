"""What every robot driver must do, as tests anybody can run against their own:

    pytest --pyargs robots.conformance --driver NAME [--driver-options '{"address": "192.168.1.7"}']

NAME is an entry point of `cell.robot_drivers`. What the driver is connected to (a simulator, an emulator, the arm
itself) comes from the entry point of the same name in `cell.driver_benches`; without one the driver is used as it is,
in real time, and the tests that need somebody to pull the cable are skipped and say so. THE ARM MOVES.
"""
