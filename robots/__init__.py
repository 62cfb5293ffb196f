"""Robot arms: the driver contract, kinematics, motions and the node that alone may move them."""
