"""What each command of ``dualfocus`` does when something breaks: faults are injected one by one into real processes.

    python -m measurements.injected_faults            # every case, some minutes
    python -m measurements.injected_faults --write    # and puts the table into docs/reliability.md
    python -m measurements.injected_faults --only convert

A case names its fault, the exit status that is right, and words that the output must have. It fails where the status is
another, a word is missing, or a user's mistake ends in a traceback.
"""
