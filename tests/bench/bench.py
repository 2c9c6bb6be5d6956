"""What the measurements share: the folder they work in, the scene in it, and running something on its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.bench.contenders import ENVIRONMENT
from tests.bench.scene import SCALES, Scale, write_scene


@dataclass(frozen=True)
class Bench:
    folder: Path
    scale_name: str

    @property
    def scale(self) -> Scale:
        return SCALES[self.scale_name]

    def scene(self) -> Path:
        """The folder with the scene, which is generated when it is first asked for."""
        folder = self.folder / "scene"
        if not folder.exists():
            folder.mkdir()
            say(f"generating a volume of {' x '.join(map(str, self.scale.shape_xyz))} voxels")
            write_scene(folder, self.scale)
        return folder


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


class Failed(Exception):
    """A command that did not succeed; its message is what the command said last, hints left out."""


def alone(*command: object) -> str:
    """Run a command in its own process, with the contenders' threads; its stdout."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, **ENVIRONMENT})
    if done.returncode:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line and not line.startswith("hint:")]
        raise Failed(said[-1] if said else f"exit code {done.returncode}")
    return done.stdout


def alone_in_python(module: str, *arguments: object) -> dict:
    """What `python -m module` prints, as JSON on its last line."""
    return json.loads(alone(sys.executable, "-m", module, *arguments).strip().splitlines()[-1])
