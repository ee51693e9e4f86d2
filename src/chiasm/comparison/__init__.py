"""Is the first run better than the others, on the same patients? Computed from what their evaluations stored.

Two paired tests of every figure that two runs share, and each says what it is:

    over patients  the difference of the pooled answers, its interval and p from resampling patients; always there, and
                   what the verdict rests on
    over folds     the corrected resampled t-test of the folds' own scores, where both runs were trained on the same folds;
                   it asks about other trainings as well

Where the first run is compared with several, p is adjusted by Holm over the others, for each figure.
"""
