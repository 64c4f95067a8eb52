"""What modules ask of Slicer besides widgets: sample data, packages, PyTorch. Nothing is downloaded or installed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any


@dataclass
class SampleData:
    """The Sample Data module: what was registered, by category."""

    sources: dict[str, list[Any]] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)

    def source(self, name: str) -> Any:
        """A registered source by its sample name."""
        known = {source.sampleName: source for sources in self.sources.values() for source in sources}
        if name not in known:
            raise LookupError(f"the sample data set {name!r} is none of those registered: {list(known)}")
        return known[name]

    def click(self, name: str) -> Any:
        """What a click on a thumbnail does: a source's own downloader, where it has one."""
        source = self.source(name)
        if source.customDownloader is None:
            raise RuntimeError(f"the sample data set {name!r} would be downloaded from {source.uris}")
        return source.customDownloader(source)

    def module(self) -> ModuleType:
        data, made = self, ModuleType("SampleData")

        class SampleDataLogic:
            @staticmethod
            def registerCustomSampleDataCategory(category: str, title: str) -> None:
                data.titles[category] = title

            @staticmethod
            def registerCustomSampleDataSource(
                category: str = "Custom",
                sampleName: str | None = None,
                uris: Any = None,
                fileNames: Any = None,
                nodeNames: Any = None,
                customDownloader: Callable[[Any], Any] | None = None,
                thumbnailFileName: str | None = None,
                loadFileTypes: Any = None,
                loadFiles: Any = None,
                loadFileProperties: Any = None,
                checksums: Any = None,
                loadFileType: Any = None,
            ) -> None:
                if not isinstance(uris, (str, list, tuple)):
                    raise TypeError("a sample data source needs uris, be it an empty text")
                source = SimpleNamespace(**{k: v for k, v in locals().items() if k != "data"})
                known = data.sources.setdefault(category, [])
                if all(other.sampleName != sampleName for other in known):
                    known.append(source)

            @staticmethod
            def sampleDataSourcesByCategory(category: str | None = None) -> Any:
                return data.sources if category is None else data.sources.get(category, [])

            def downloadSample(self, sampleName: str) -> Any:
                return self.downloadSamples(sampleName)[0]

            def downloadSamples(self, sampleName: str) -> Any:
                raise RuntimeError(f"the sample data set {sampleName!r} would be downloaded")

        made.SampleDataLogic = SampleDataLogic
        made.downloadSample = lambda name: SampleDataLogic().downloadSample(name)
        made.downloadSamples = lambda name: SampleDataLogic().downloadSamples(name)
        return made


@dataclass
class Packages:
    """slicer.packaging of Slicer 5.12, and what a test wants of it.

    Attributes:
        missing: names of packages that are not there.
        offline: installing fails.
        absent: as in Slicer 5.10, there is no slicer.packaging, only slicer.util.pip_install.
        installed: requirements that were installed, in order.
    """

    missing: set[str] = field(default_factory=set)
    offline: bool = False
    installed: list[str] = field(default_factory=list)
    offer: Callable[[bool], None] = lambda there: None
    _absent: bool = False

    @property
    def absent(self) -> bool:
        return self._absent

    @absent.setter
    def absent(self, absent: bool) -> None:
        self._absent = absent
        self.offer(not absent)

    def install(self, requirements: Any, **options: Any) -> None:
        import subprocess

        if self.offline:
            raise subprocess.CalledProcessError(1, "pip install")
        wanted = requirements.split() if isinstance(requirements, str) else [str(r) for r in requirements]
        self.installed += wanted
        self.missing -= {_name(requirement) for requirement in wanted}

    def satisfied(self, requirements: Any) -> bool:
        wanted = requirements.split() if isinstance(requirements, str) else requirements
        wanted = wanted if isinstance(wanted, (list, tuple)) else [wanted]
        return not any(_name(str(r)) in self.missing for r in wanted)

    def ensure(
        self, requirements: Any, constraints: Any = None, skip_packages: Any = None, prompt_install: bool = True,
        prompt_restart: bool = True, requester: str | None = None, skip_in_testing: bool = True,
        show_progress: bool = True,
    ) -> None:  # fmt: skip
        """As slicer.packaging.pip_ensure: asks, then installs what is missing; declined, it raises RuntimeError."""
        import slicer

        wanted = requirements.split() if isinstance(requirements, str) else requirements
        lacking = [str(r) for r in wanted if not self.satisfied([r])]
        if not lacking:
            return
        question = f"{len(lacking)} Python packages need to be installed."
        title = f"{requester} - Install Python Packages"
        if prompt_install and not slicer.util.confirmOkCancelDisplay(
            question, title, detailedText="\n".join(lacking)
        ):
            raise RuntimeError("User declined package installation")
        self.install(lacking)

    def module(self) -> ModuleType:
        from pathlib import Path

        made = ModuleType("slicer.packaging")

        def load_requirements(path: Any) -> list[str]:
            lines = (line.strip() for line in Path(path).read_text().splitlines())
            return [line for line in lines if line and line[0] not in "#-"]

        made.load_requirements = load_requirements
        made.pip_check = self.satisfied
        made.pip_ensure = self.ensure
        made.pip_install = self.install
        return made


def _name(requirement: str) -> str:
    import re

    return re.split(r"[\s<>=!~;\[]", requirement.strip(), maxsplit=1)[0].lower()


@dataclass
class Torch:
    """The PyTorch extension, and what a test wants of it.

    Attributes:
        extension: whether the extension is installed.
        installed: whether torch is.
        offline: installing fails.
        requests: options of every installation that was asked for.
    """

    installed: bool = True
    offline: bool = False
    requests: list[dict[str, Any]] = field(default_factory=list)
    offer: Callable[[bool], None] = lambda there: None
    _extension: bool = True

    @property
    def extension(self) -> bool:
        return self._extension

    @extension.setter
    def extension(self, there: bool) -> None:
        self._extension = there
        self.offer(there)

    def module(self) -> ModuleType:
        state, made = self, ModuleType("PyTorchUtils")

        class PyTorchUtilsLogic:
            @staticmethod
            def torchInstalled() -> bool:
                return state.installed

            @property
            def torch(self) -> Any:
                return _torch() if state.installed else self.installTorch()

            def installTorch(
                self,
                askConfirmation: bool = False,
                forceComputationBackend: str | None = None,
                torchVersionRequirement: str | None = None,
            ) -> Any:
                import slicer

                state.requests.append(
                    {
                        "backend": forceComputationBackend,
                        "version": torchVersionRequirement,
                        "asked": askConfirmation,
                    }
                )
                if askConfirmation and not slicer.util.confirmOkCancelDisplay("PyTorch will be downloaded."):
                    return None
                if state.offline:
                    raise RuntimeError("light-the-torch could not reach the network")
                state.installed = True
                return _torch()

        made.PyTorchUtilsLogic = PyTorchUtilsLogic
        return made


def _torch() -> Any:
    import torch

    return torch
