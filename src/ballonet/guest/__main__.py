"""The program `ballonet-agent`."""

import sys

from ballonet.guest.agent import main

sys.exit(main())
