"""One module of a unittest suite, test by test: run.py MODULE ROWS

Appends "TEST: OUTCOME" to the file ROWS after each test, so that what ends the process leaves the rows before it.
A test that takes longer than LIMIT seconds is a row as well, "hangs", and the next one begins.
"""

import os
import signal
import sys
import tempfile
import threading
import unittest

LIMIT = 20


class Hangs(BaseException):
    """Raised in the test itself; no Exception, since tests catch those."""


class Rows(unittest.TestResult):
    def __init__(self, path):
        super().__init__()
        self.file = open(path, "a", buffering=1)
        self.outcome = None
        self.test = None

    def startTest(self, test):
        super().startTest(test)
        self.outcome = "ok"
        self.test = test
        self.watchdog = threading.Timer(LIMIT, signal.pthread_kill, (threading.main_thread().ident, signal.SIGXCPU))
        self.watchdog.daemon = True
        self.watchdog.start()

    def stopTest(self, test):
        self.watchdog.cancel()
        self.row(test, self.outcome)
        self.test = None
        super().stopTest(test)

    def row(self, test, outcome):
        print(f"{' '.join(test.id().split())}: {outcome}", file=self.file)

    def is_not_ok(self, test, outcome, error=None):
        if error and issubclass(error[0], Hangs):
            outcome = "hangs"
        elif error:
            sys.stderr.write(self._exc_info_to_string(error, test))
        # What fails outside of a test, in setUpClass or setUpModule, is a row of its own.
        if self.test is None:
            self.row(test, outcome)
        elif self.outcome != "hangs":
            self.outcome = outcome

    def addError(self, test, err):
        self.is_not_ok(test, "error", getattr(err, "exc_info", None) or as_exc_info(err))

    def addFailure(self, test, err):
        self.is_not_ok(test, "fails", as_exc_info(err))

    def addSubTest(self, test, subtest, err):
        if err:
            self.is_not_ok(test, "fails", err)

    def addSkip(self, test, reason):
        self.is_not_ok(test, "skipped")

    def addExpectedFailure(self, test, err):
        self.is_not_ok(test, "fails, as expected")

    def addUnexpectedSuccess(self, test):
        self.is_not_ok(test, "succeeds, unexpectedly")


def as_exc_info(err):
    """trial hands on its own Failure."""
    return err if isinstance(err, tuple) else (err.type, err.value, err.getTracebackObject())


def hangs(_number, _frame):
    raise Hangs


def main():
    module, path = sys.argv[1:]
    os.chdir(tempfile.mkdtemp(dir=os.environ["TMPDIR"]))
    if module.startswith("test."):
        from test import support

        support.use_resources = {}  # as regrtest: no resource that has to be asked for, the network among them
    # GLib keeps an exception that is raised in its callbacks, Hangs too: Twisted does without its reactors.
    sys.modules["gi"] = None
    signal.signal(signal.SIGXCPU, hangs)
    rows = Rows(path)
    suite = unittest.defaultTestLoader.loadTestsFromName(module)
    suite.run(rows)
    sys.stderr.flush()
    print(f"{module}/all: {rows.testsRun} tests", file=rows.file)
    os._exit(0)  # threads of tests that hang do not keep it


main()
