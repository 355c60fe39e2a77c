"""A multiple-choice set out of GQA's own annotations: what ``dualfocus data gqa-mcq`` builds."""
