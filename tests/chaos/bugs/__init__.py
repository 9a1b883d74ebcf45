"""Known bugs, switched on from outside one by one: a checker that doesn't catch them checks nothing."""
