"""The demo: a whole node with a million registrations, seen from outside.

place         where its files lie: what is kept between runs, and what is not
shelf         the filled store that is kept
node          `topnode serve top`, started and stopped
stage         a running node and the ways to reach it
feeding       rows into the running node
expectations  what an answer must be, from the corpus alone
questions     what is asked
asking        asking it, with times, and comparing
visibility    when every resolver knows what was written
joining       secondary nodes that join while it runs
watching      what the node says about itself
findings      what was seen and measured
story         the acts, in their order
"""
