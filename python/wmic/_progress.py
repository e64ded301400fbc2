"""Progress of long calls."""

import json


class _Bar:
    """A bar on stderr, one after the other for each thing that is counted."""

    def __init__(self):
        from tqdm.auto import tqdm

        self._tqdm, self._bar, self._what = tqdm, None, None

    def __call__(self, what, done, total, info):
        if total == 0:
            self._tqdm.write(str(info))
            return
        if what != self._what:
            self.close()
            self._bar, self._what = self._tqdm(total=total, desc=what), what
        self._bar.update(done - self._bar.n)

    def close(self):
        if self._bar is not None:
            self._bar.close()


class reported:
    """The progress argument of a call as the native function that it is for takes it, inside a `with` statement."""

    def __init__(self, progress):
        self._report = _Bar() if progress is True else progress or None

    def __enter__(self):
        if self._report is None:
            return None
        return lambda what, done, total, info: self._report(what, done, total, json.loads(info))

    def __exit__(self, *_):
        if isinstance(self._report, _Bar):
            self._report.close()
