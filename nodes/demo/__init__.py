"""The demo: a whole node with a million registrations and the tiers below it, seen from outside.

wuhan         who is connected, and who is planned
corpus        what they register, by rule
place         where its files lie: what is kept between runs, and what is not
shelf         the filled store that is kept
node          processes that run nodes, started, stopped and killed
hosting       several nodes in one process
topology      which nodes below run, and with what settings
below         those nodes as processes
together      several things at once
stage         a running node, the ways to reach it, and what is below it
connecting    a registry, as those see it who connect to it
registering   registrations as enterprises make them
expectations  what an answer must be, from the corpus alone
questions     what is asked
asking        asking it, with times, and comparing
visibility    when every resolver knows what was written
tiers         the nodes below brought to life, and asked for through the one above
joining       secondary nodes that join while it runs
failing       one that is killed and comes back
watching      what the node says about itself
debian        the package index of this machine
findings      what was seen and measured
story         the acts, in their order
"""
