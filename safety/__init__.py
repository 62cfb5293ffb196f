"""Speed and separation monitoring: from what is seen to the rate the arm may move at."""
