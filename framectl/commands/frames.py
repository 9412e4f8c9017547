def add_parser(groups, common):
    pass
