"""Makes files unreadable for root, too.

Root reads files of mode 000. A process that has given up two of root's capabilities does not, and
neither do its children, so that tests of unreadable files work for every user.
"""

UNPRIVILEGED = """
import ctypes
import os

class Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]

class Data(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]

if os.geteuid() == 0:
    system = ctypes.CDLL(None, use_errno=True)
    overrides = (1, 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    for capability in overrides:
        assert system.prctl(24, capability, 0, 0, 0) == 0  # PR_CAPBSET_DROP
    header, data = Header(0x20080522, 0), (Data * 2)()  # the version of 64 capabilities
    assert system.capget(ctypes.byref(header), data) == 0
    for name in ("effective", "permitted", "inheritable"):
        kept = getattr(data[0], name) & ~sum(1 << capability for capability in overrides)
        setattr(data[0], name, kept)
    assert system.capset(ctypes.byref(header), data) == 0
"""
"""Python that a command runs first, as `Command.patch`."""
