"""Speed: what this machine can do, what training and acting take of it, and where time goes."""
