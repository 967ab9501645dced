"""What all tests stand on.

Hypothesis draws the same examples in every run; HYPOTHESIS_PROFILE=explore draws new ones. Ctrl-C
reaches the commands that tests start, even where the tests themselves run as a shell's job in the
background, which ignores it and hands that on.
"""

import os
import signal

from hypothesis import settings

settings.register_profile("steady", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
