"""`python -m nbstep`: the shell command."""

from nbstep.cli import main

raise SystemExit(main())
