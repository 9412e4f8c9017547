"""How well a gray release is judged: many simulated rollouts through the product's own decision code.

world      simulated people: how frames play, complain and draw power; every constant a named parameter
staged     one rollout: assignment, table, evaluate, judge, the next stage; nothing of it implemented again
scenarios  what is simulated, and how often
figures    from the ends of rollouts to shares with bounds, and medians
peers      other systems' rules on the same fleets
frontier   detection time against false rollbacks; picture draws it
recorded   a rollout as rows of a database; rows compares verdicts and times the product's reader
timing     one evaluation in memory
golden     formulas against other people's implementations
"""
