"""Hyper-parameters and recipes, chosen inside each outer fold: nested cross-validation.

Choosing by looking at patients is part of a training. So each outer fold chooses by inner folds of its own training and
validation patients, its model is trained by what it chose, and its test patients, whom the choice has not seen, give the figure
(Varma & Simon 2006; Cawley & Talbot 2010). The figure by which was chosen stands beside it, and their difference, the optimism.
"""
