"""The formats that are taken, by name: the door for others.

A new format is a module here with an object that fulfils ``base.DatasetFormat``, and a line below.
"""

from collections.abc import Mapping

from app.datasets.formats.base import DatasetFormat
from app.datasets.formats.messages import MESSAGES

FORMATS: Mapping[str, DatasetFormat] = {MESSAGES.name: MESSAGES}
