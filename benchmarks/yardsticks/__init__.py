"""Methods of other libraries on our tasks, each in an environment of its own."""
