"""A planted fault: what is changed where, on which case it shows, and which way of running must notice it."""

from __future__ import annotations

from dataclasses import dataclass, field

ANY = r"wrong values|does not hold|error:|Sanitizer|runtime error|signal"
OUT_OF_BOUNDS = r"AddressSanitizer: (heap-buffer-overflow|use-after-poison|unknown-crash)|error:|signal"
RACE = r"ThreadSanitizer: data race"


@dataclass(frozen=True)
class Fault:
    """A planted fault.

    Attributes:
        name: what is wrong.
        file: under csrc/cuda, or units/... in this folder.
        old: text to replace, exactly once in the file unless `every`.
        new: what stands there instead.
        case: a case of fault_cases.py; for units, the name of a unit.
        columns: column to regular expression.
        ptx: must be noticed in the interpreted PTX.
        order: in which thread order.
        source: the source (.cu) whose kernels the case runs it in; all others are linked as they are shipped. "" is
            that of the file's op.
    """

    name: str
    file: str
    old: str
    new: str
    case: str
    columns: dict[str, str] = field(default_factory=dict)
    ptx: bool = False
    order: str = "reverse"
    source: str = ""

    @property
    def compiled(self) -> str:
        """The only source that is compiled with the fault, where `file` is."""
        op = next((op for op in ("graph_cut", "patch_scores") if self.file.startswith(op)), "row_sums")
        return self.file if self.in_units else f"cuda/{self.source or op + '.cu'}"

    @property
    def in_units(self) -> bool:
        """Whether it is planted into the emulator's own tests."""
        return self.file.startswith("units/")

    def planted(self, text: str) -> str:
        """The file's text with the fault; LookupError if the place is gone."""
        count = text.count(self.old)
        if count != 1:
            raise LookupError(
                f"{self.name}: {self.old!r} must be once in {self.file}, got {count} times: change faults.py"
            )
        return text.replace(self.old, self.new)
