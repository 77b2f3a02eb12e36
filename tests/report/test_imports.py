"""Acting needs no drawing: what a policy server loads."""

import subprocess
import sys

CODE = """
import sys
import flowpolicy
from flowpolicy.train.policy import Policy
print(*sorted({"matplotlib", "PIL", "jinja2"} & set(sys.modules)))
"""


def test_flowpolicy_is_imported_without_what_draws():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
