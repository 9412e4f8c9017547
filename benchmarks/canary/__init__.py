"""How well a gray release is judged: many simulated rollouts through the product's own decision code.

world    simulated people: how frames play, complain and draw power; every constant a named parameter
staged   one rollout: assignment, table, evaluate, judge, the next stage; nothing of it implemented again
"""
