"""Inputs that end, hang or deceive a program that believes them: headers, pipes, code of others, checkpoints."""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

import GaussianMRILib as gm
from GaussianMRILib import GaussianMRIError, read_stacks
from GaussianMRILib.cinematic.looks import Light, Look
from GaussianMRILib.cinematic.model import CinematicModel
from GaussianMRILib.cinematic.model_files import load_model, save_model
from GaussianMRILib.cinematic.tracer import PathTracer
from GaussianMRILib.cinematic.transfer import TransferFunction
from GaussianMRILib.native.support.build import check_private
from GaussianMRILib.tensor_files import load_optimiser, read_state, write_state

ROOT = Path(gm.__file__).resolve().parents[1]
VOXELS = np.arange(6 * 5 * 4, dtype="<i2")
META = (
    "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = {packed}\n"
    "{more}TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 0 0 0\nElementSpacing = 1 1 4\nDimSize = 6 5 4\n"
    "ElementType = MET_SHORT\nElementDataFile = LOCAL\n"
)
NRRD = "NRRD0004\ntype: short\ndimension: 3\nsizes: 6 5 4\nspacings: 1 1 4\nendian: little\nencoding: {0}\n\n"


def meta(path: Path, change: tuple[str, str] = ("", ""), packed: bool = False, cut: int = 0) -> Path:
    raw = VOXELS.tobytes()[: VOXELS.nbytes - cut]
    body = zlib.compress(raw) if packed else raw
    head = META.format(packed=packed, more=f"CompressedDataSize = {len(body)}\n" if packed else "")
    path.write_bytes(head.replace(*change).encode() + body if change[0] else head.encode() + body)
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_sound_volumes_are_read(tmp_path: Path, packed: bool) -> None:
    assert np.array_equal(read_stacks(meta(tmp_path / "a.mha", packed=packed))[0].pixels.ravel(), VOXELS)
    body = gzip.compress(VOXELS.tobytes()) if packed else VOXELS.tobytes()
    (tmp_path / "a.nrrd").write_bytes(NRRD.format("gzip" if packed else "raw").encode() + body)
    assert np.array_equal(read_stacks(tmp_path / "a.nrrd")[0].pixels.ravel(), VOXELS)
    (tmp_path / "t.nrrd").write_text(NRRD.format("ascii") + " ".join(map(str, VOXELS)))
    assert np.array_equal(read_stacks(tmp_path / "t.nrrd")[0].pixels.ravel(), VOXELS)


@pytest.mark.parametrize("packed", [False, True])
def test_a_volume_that_is_too_short_is_refused(tmp_path: Path, packed: bool) -> None:
    with pytest.raises(GaussianMRIError, match=r"a\.mha is truncated.* 200 of 240 bytes"):
        read_stacks(meta(tmp_path / "a.mha", packed=packed, cut=40))
    raw = VOXELS.tobytes()[:200]
    body = gzip.compress(raw) if packed else raw
    (tmp_path / "a.nrrd").write_bytes(NRRD.format("gzip" if packed else "raw").encode() + body)
    with pytest.raises(GaussianMRIError, match=r"a\.nrrd is truncated.* 200 of 240 bytes"):
        read_stacks(tmp_path / "a.nrrd")


@pytest.mark.parametrize(
    "change",
    [
        ("NDims = 3", "NDims = 4294967296"), ("NDims = 3", "NDims = 99999999999"), ("NDims = 3", "NDims = -1"),
        ("DimSize = 6 5 4", "DimSize = 6 5"), ("DimSize = 6 5 4", "DimSize = 6 5 99999999999"),
        ("DimSize = 6 5 4", "DimSize = 6 5 -4"), ("DimSize = 6 5 4", "DimSize = 6 5 1000000"),
        ("Offset = 0 0 0", "Offset = 0"), ("Offset = 0 0 0", "Offset = nan 0 0"),
        ("1 0 0 0 1 0 0 0 1", "1 0 0"), ("MET_SHORT", "MET_SHORTS"),
        ("LOCAL", "LIST"), ("LOCAL", "slice%03d.raw 1 4 1"), ("LOCAL", "no-such-file.raw"), ("ElementDataFile", "Element"),
        ("ElementSpacing = 1 1 4", "ElementSpacing = 1 1 1e400"),
        ("ElementType", "ElementNumberOfChannels = 9999999\nElementType"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("packed", [False, True])
def test_headers_that_itk_must_not_see(tmp_path: Path, change: tuple[str, str], packed: bool) -> None:
    with pytest.raises(GaussianMRIError, match=r"a\.mha"):
        read_stacks(meta(tmp_path / "a.mha", change, packed))


@pytest.mark.parametrize("separate", [True, False])
@pytest.mark.parametrize(
    "field",
    [
        "kinds: " + "domain " * 400, "kinds: " + "x" * 5000 + " domain domain", "centers: " + "cell " * 400,
        "labels: " + '"a" ' * 400, "space units: " + '"mm" ' * 400, "measurement frame: " + "(1,0,0) " * 400,
        "nothing: " + "y" * 5000, "z" * 5000 + ": y",
    ],
)  # fmt: skip
def test_fields_that_end_the_library_are_refused_before_it(tmp_path: Path, field: str, separate: bool) -> None:
    """What it cannot parse goes into a message, for which it has little room."""
    data = "data file: a.raw\n" if separate else ""
    (tmp_path / "a.raw").write_bytes(VOXELS.tobytes())
    header = NRRD.format("raw").replace("endian", f"{field}\n{data}endian").encode()
    (tmp_path / "a.nrrd").write_bytes(header + (b"" if separate else VOXELS.tobytes()))
    with pytest.raises(GaussianMRIError, match=r"a\.nrrd is not a readable volume.*its header has the line"):
        read_stacks(tmp_path / "a.nrrd")


def test_long_words_of_others_are_no_reason_to_refuse(tmp_path: Path) -> None:
    more = f"content: {'x' * 5000}\n# {'c' * 5000}\nSegment0_Name:={'n' * 5000}\n"
    (tmp_path / "a.nrrd").write_bytes(NRRD.format("raw").replace("endian", f"{more}endian").encode() + VOXELS.tobytes())
    assert np.array_equal(read_stacks(tmp_path / "a.nrrd")[0].pixels.ravel(), VOXELS)


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    """A file of a megabyte that says, rightly, that it is a terabyte; and one whose stream is longer than it says."""
    (tmp_path / "a.nrrd").write_bytes(
        NRRD.format("gzip").replace("6 5 4", "1000000 1000 500").encode() + gzip.compress(bytes(1 << 20))
    )
    with pytest.raises(GaussianMRIError, match=r"a\.nrrd .*931 GB of voxels, and 16 GB is the limit"):
        read_stacks(tmp_path / "a.nrrd")
    (tmp_path / "b.nrrd").write_bytes(NRRD.format("gzip").encode() + gzip.compress(VOXELS.tobytes() + bytes(50 << 20)))
    assert read_stacks(tmp_path / "b.nrrd")[0].pixels.shape == (4, 5, 6)


def test_the_image_of_a_pair_is_whole(tmp_path: Path) -> None:
    header = bytearray(348)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, 6, 5, 4, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 4, 16)
    struct.pack_into("<8f", header, 76, 1, 1, 1, 4, 0, 0, 0, 0)
    struct.pack_into("<2f", header, 112, 1, 0)
    header[344:348] = b"ni1\0"
    (tmp_path / "c.hdr").write_bytes(header)
    (tmp_path / "c.img").write_bytes(VOXELS.tobytes())
    assert np.array_equal(read_stacks(tmp_path / "c.hdr")[0].pixels.ravel(), VOXELS)
    (tmp_path / "c.img").write_bytes(VOXELS.tobytes()[:-1])
    for name in ("c.hdr", "c.img"):
        with pytest.raises(GaussianMRIError, match=r"c\.img is truncated.* 239 of 240 bytes"):
            read_stacks(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes in the file system")
def test_a_pipe_is_never_opened(tmp_path: Path) -> None:
    meta(tmp_path / "a.mha")
    for name in ("pipe", "pipe.dcm", "pipe.nii"):
        os.mkfifo(tmp_path / name)
    assert len(read_stacks(tmp_path)) == 1
    with pytest.raises(GaussianMRIError, match=r"pipe\.nii is neither a file nor a folder"):
        read_stacks(tmp_path / "pipe.nii")


# ---- code ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="POSIX permissions")
def test_code_that_others_may_write_is_not_loaded(tmp_path: Path) -> None:
    library = tmp_path / "x.so"
    library.write_bytes(b"code")
    library.chmod(0o755)
    tmp_path.chmod(0o755)
    check_private(tmp_path, library, tmp_path / "not there")
    for path, mode in ((library, 0o775), (tmp_path, 0o777)):
        path.chmod(mode)
        with pytest.raises(GaussianMRIError, match="others may write"):
            check_private(tmp_path, library)
        path.chmod(0o755)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="POSIX permissions")
@pytest.mark.usefixtures("needs_kernels")
@pytest.mark.slow
def test_a_damaged_library_is_built_anew(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    code = "import GaussianMRILib.native as n; b = n.backend(); print(b.name, b.path)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GAUSSIANMRI_CACHE": str(cache), "GAUSSIANMRI_BACKEND": "build"}

    def built() -> Path:
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        return Path(done.stdout.split()[-1])

    library = built()
    whole = library.read_bytes()
    for broken in (whole[: len(whole) // 2], b"foreign", whole + b"x"):
        library.write_bytes(broken)
        assert built() == library and library.read_bytes()[:4] == whole[:4] and len(library.read_bytes()) == len(whole)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.usefixtures("needs_kernels")
def test_a_forked_child_renders() -> None:
    code = """
import os, signal, numpy as np, torch, GaussianMRILib as gm
from GaussianMRILib.gaussians.lattice import GaussianLattice
torch.set_num_threads(4)
(torch.rand(2000, 2000) * 2).sum()
hull = np.array([[s * (a == b) for b in range(3)] + [-20.0] for a in range(3) for s in (-1.0, 1.0)])
lattice = GaussianLattice.of_box(torch.rand(24, 24, 24), np.diag([2.0, 2, 2, 1]))
pose = np.eye(4)[None]
field = gm.GaussianField(torch.zeros(11, 0), 0.0, 1.0, (hull,), pose, np.array([[9, 9]], np.int32), lattice=lattice)
plane = gm.ImagePlane.from_normal((0, 0, 0), (0, 0.2, 1), spacing=(0.05, 0.05), shape=(400, 400), thickness=3.0)
before = field.render(plane)
child = os.fork()
if child == 0:
    signal.alarm(30)
    (torch.rand(2000, 2000) * 2).sum()
    os._exit(0 if np.array_equal(before, field.render(plane), equal_nan=True) else 3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "4"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


# ---- looks and the tracer --------------------------------------------------------------------------------------

LOOK = TransferFunction([[0, 1, 1, 1], [1, 1, 1, 1]], [[0, 0], [1, 0.9]])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "values",
    [{"density": float("inf")}, {"density": "9"}, {"surface": 1e-320}, {"exposure": float("nan")}, {"scatterings": 0},
     {"lights": [{"azimuth": 0, "elevation": float("inf")}]}, {"zenith": [1, 2]}, {"nadir": [1, float("nan"), 1]},
     {"relative": "yes"}, {"percentiles": [1, None]}],
)  # fmt: skip
def test_looks_that_cannot_be(values: dict[str, object]) -> None:
    with pytest.raises(GaussianMRIError, match="'a'"):
        Look.from_dict({"name": "a", "transfer": LOOK.to_dict(), **values})
    with pytest.raises(GaussianMRIError, match="elevation"):
        Light(0, float("nan"))


@pytest.mark.usefixtures("needs_kernels")
def test_absurd_density_is_bounded() -> None:
    """Of a volume that is solid from a hundredth of a voxel on, no ray takes more steps: it took hours."""
    volume = np.zeros((16, 16, 16), np.float32)
    volume[4:12, 4:12, 4:12] = 1.0
    pictures = []
    for density in (1e3, 1e6):
        tracer = PathTracer(volume, np.diag([2.0, 2, 2, 1]), Look("a", LOOK, density=density))
        pictures.append(tracer.render(tracer.camera(azimuth=30, elevation=20, size=24), samples=4).image)
        assert float(tracer._volume.majorants.max()) <= 100 / 2 * 1.001
    assert abs(float(pictures[0].mean() - pictures[1].mean())) < 0.05 and pictures[0].max() > 0.2


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_majorants_that_would_never_end(value: float) -> None:
    volume = np.random.default_rng(0).uniform(0, 1, (9, 9, 9)).astype(np.float32)
    tracer = PathTracer(volume, np.eye(4), Look("a", LOOK))
    tracer._volume.majorants[0, 0, 0] = value
    with pytest.raises(ValueError, match="majorants must be finite"):
        tracer.render(tracer.camera(size=8), samples=1)


# ---- models and checkpoints ------------------------------------------------------------------------------------


def test_files_of_two_models_do_not_mix(tmp_path: Path) -> None:
    from cinematic_scenes import CENTER, RADIUS, random_ball

    for name, seed in (("a", 1), ("b", 2)):
        save_model(tmp_path / f"{name}.ply", CinematicModel(random_ball(50, seed), CENTER, RADIUS))
    assert len(load_model(tmp_path / "a.ply").splats) == 50
    (tmp_path / "b.json").replace(tmp_path / "a.json")
    with pytest.raises(GaussianMRIError, match=r"a\.ply is not the file that .*a\.json describes"):
        load_model(tmp_path / "a.ply")


def test_a_model_with_another_number_of_splats_or_without_its_description(tmp_path: Path) -> None:
    from cinematic_scenes import CENTER, RADIUS, random_ball

    path = save_model(tmp_path / "a.ply", CinematicModel(random_ball(50, 1), CENTER, RADIUS))
    (tmp_path / "a.json").unlink()
    assert len(load_model(path)) == 50
    whole = path.read_bytes()
    for count, word in ((7, "damaged"), (-1, "damaged"), (51, "truncated")):
        path.write_bytes(whole.replace(b"vertex 50\n", f"vertex {count}\n".encode()))
        with pytest.raises(GaussianMRIError, match=rf"a\.ply is {word}: it has"):
            load_model(path)
    learned = CinematicModel(random_ball(50, 1), CENTER, RADIUS, visibility="learned", offsets=torch.zeros(50))
    path = save_model(tmp_path / "b.ply", learned)
    assert load_model(path).visibility == "learned"
    (tmp_path / "b.json").unlink()
    with pytest.raises(GaussianMRIError, match=r"b\.ply has a learned cut, of which b\.json is missing"):
        load_model(path)


def test_every_bit_of_a_checkpoint_counts(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    write_state(path, {"format": "f", "version": 1, "weights": torch.arange(1000.0)})
    words = "f", 1, "a checkpoint", "", ""
    assert torch.equal(read_state(path, *words)[0]["weights"], torch.arange(1000.0))
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        (data,) = (m for m in archive.infolist() if m.file_size >= 4000)
    for bit in (0, 3, 7):
        flipped = bytearray(whole)
        flipped[whole.index(torch.arange(1000.0).numpy().tobytes()) + 1234] ^= 1 << bit
        path.write_bytes(bytes(flipped))
        with pytest.raises(GaussianMRIError, match=f"checksum of {data.filename}"):
            read_state(path, *words)


@pytest.mark.parametrize(
    "damage",
    [
        lambda s: s["param_groups"][0].update(betas=(0.5, 2.0)), lambda s: s["param_groups"].clear(),
        lambda s: s["param_groups"][0].update(lr=float("nan")), lambda s: s["state"][0].update(exp_avg=torch.zeros(2)),
        lambda s: s["state"][0]["exp_avg"].fill_(float("inf")), lambda s: s["state"][0].pop("step"),
        lambda s: s["state"][0]["exp_avg_sq"].fill_(-1),
    ],
)  # fmt: skip
def test_moments_of_another_training(damage: object) -> None:
    leaf = torch.nn.Parameter(torch.ones(3))
    optimiser = torch.optim.Adam([leaf], lr=0.1)
    leaf.grad = torch.ones(3)
    optimiser.step()
    state = optimiser.state_dict()
    load_optimiser(optimiser, state)
    damage(state)  # type: ignore[operator]
    with pytest.raises(GaussianMRIError):
        load_optimiser(optimiser, state)


def test_an_instance_number_is_no_reason_for_memory(tmp_path: Path) -> None:
    import pydicom
    from dicom_files import series

    for path, number in zip(series(tmp_path), (1, 2, 3, 2**31 - 1), strict=True):
        dataset = pydicom.dcmread(path)
        dataset.InstanceNumber = number
        dataset.save_as(path)
    assert read_stacks(tmp_path)[0].shape[0] == 4
