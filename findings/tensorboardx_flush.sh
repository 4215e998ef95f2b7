#!/usr/bin/env bash
# tensorboardX: after SummaryWriter.flush() the last scalar is not in the file; close() writes it.
#
# Versions: tensorboardX 2.6.5.
# Input:    two scalars, then flush().
# Expected: both in the file: flush "makes sure that all pending events have been written to disk"
#           (docstring of FileWriter.flush; SummaryWriter.flush calls it).
# Seen:     the first or none of them, also five seconds later; both after close(). So a run that is
#           watched lags behind, and one that is killed loses what it was told to write.
# Fails when this changes.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check tensorboardX==2.6.5
cd "$scratch"
"$scratch/venv/bin/python" - <<'END'
import time
from pathlib import Path

from tensorboardX import SummaryWriter
from tensorboardX.proto.event_pb2 import Event


def scalars():
    """Names of the scalars in the one event file: records of length, checksum, bytes, checksum."""
    (file,) = Path("board").iterdir()
    data, names = file.read_bytes(), []
    while data:
        size = int.from_bytes(data[:8], "little")
        event = Event.FromString(data[12 : 12 + size])
        names += [value.tag for value in event.summary.value]
        data = data[16 + size :]
    return names


writer = SummaryWriter("board")
writer.add_scalar("first", 1.0, 0)
writer.add_scalar("second", 2.0, 0)
writer.flush()
flushed = scalars()
time.sleep(5)
later = scalars()
writer.close()
closed = scalars()
print(f"after flush: {flushed}, five seconds later: {later}, after close: {closed}")
assert "second" not in flushed + later and closed == ["first", "second"], "it has changed"
END
