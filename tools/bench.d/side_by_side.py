"""The part of `tools/bench` that runs moby beside the tools it stands in for.

Each row builds one format of the "big" system and lets a tool make the same
out of what moby began with, already unpacked into a folder or laid out as a
raw disk: the tool's easier half. Runs of both alternate, so that what else the
machine does falls on both.
"""

import os
import random
import shutil
import statistics
import subprocess
import time
from dataclasses import dataclass
from typing import Callable

# Debian packages of the tools.
TOOLS = {
    "mksquashfs": "squashfs-tools",
    "mkfs.erofs": "erofs-utils",
    "mke2fs": "e2fsprogs",
    "xorriso": "xorriso",
    "qemu-img": "qemu-utils",
    "mkfs.fat": "dosfstools",
    "mcopy": "mtools",
    "genimage": "genimage",
    "systemd-repart": "systemd",
    "fakeroot": "fakeroot",
}

# What the store keeps of a system that is fetched and unpacked, of one that
# has its initial root, and of one that has its root on a disk.
UNPACKED = ("tar-2", "kernel-1")
STARTED = (*UNPACKED, "initrd-1")
ROOTED = (*STARTED, "erofs-3")


@dataclass
class Row:
    """One comparison."""

    name: str
    form: str  # moby's format
    ending: str  # of the file whose size counts
    tool: str
    command: Callable[["Prepared"], str]  # for a shell, writes `$OUT`
    setting: str
    kept: tuple = STARTED
    disk: str | None = None  # the manifest's `disk: root`
    options: tuple = ()


class Prepared:
    """What the tools begin with."""

    def __init__(self, folder):
        self.folder = folder
        self.tree, self.raw = folder / "tree", folder / "raw.img"
        self.kernel, self.initrd, self.small = folder / "kernel", folder / "initrd", folder / "small"
        self.root = folder / "erofs"
        # As nobody's owner of files, the tools need somebody who claims to be root.
        self.root_user = "" if os.geteuid() == 0 else f"fakeroot -i {folder}/owners "


def convert(options):
    return lambda at: f"qemu-img convert -f raw {options} {at.raw} $OUT"


def fat(at):
    size = (at.kernel.stat().st_size + at.initrd.stat().st_size) // 1024 + 16384
    return f"mkfs.fat -C $OUT {size} > $OUT.log && mcopy -i $OUT {at.kernel} {at.initrd} ::/"


def genimage(at, root="erofs"):
    config = at.folder / f"{root}.cfg"
    size = (at.kernel.stat().st_size + at.small.stat().st_size) // (1 << 20) + 8
    config.write_text(
        f"image boot.vfat {{ vfat {{ files = {{ {at.kernel}, {at.small} }} }} size = {size}M }}\n"
        "image out.img { hdimage { partition-table-type = gpt }\n"
        f"partition boot {{ image = boot.vfat }} partition root {{ image = {root} }} }}\n"
    )
    options = f"--config {config} --inputpath {at.folder} --rootpath {at.folder}/empty"
    options += " --outputpath $OUT.d --tmppath $OUT.tmp"
    return f"mkdir -p {at.folder}/empty && genimage {options} > $OUT.log 2>&1 && mv $OUT.d/out.img $OUT"


def repart(at):
    """Lays out partitions that are made already: to make them itself, this
    version of systemd-repart needs loop devices, and root."""
    boot, config = at.folder / "boot.vfat", at.folder / "repart.d"
    config.mkdir(exist_ok=True)
    for name, kind, image in [("10-boot", "esp", boot), ("20-root", "root", at.root)]:
        (config / f"{name}.conf").write_text(f"[Partition]\nType={kind}\nCopyBlocks={image}\n")
    size = (at.kernel.stat().st_size + at.small.stat().st_size) // 1024 + 8192
    made = f"rm -f {boot} && mkfs.fat -C {boot} {size} > $OUT.log && mcopy -i {boot} {at.kernel} {at.small} ::/"
    options = f"--empty=create --size=auto --seed=random --dry-run=no --definitions={config}"
    return f"{made} && systemd-repart {options} --no-pager --pretty=no $OUT 2>> $OUT.log"


def ext4(at):
    root = at.folder / "ext4"
    made = f"{at.root_user}mke2fs -F -q -t ext4 -d {at.tree} {root} {tree_size(at.tree)}k"
    return f"rm -f {root} && {made} && {genimage(at, 'ext4')}"


def mksquashfs(compressor):
    return lambda at: (
        f"{at.root_user}mksquashfs {at.tree} $OUT -comp {compressor} -b 128K -processors {os.cpu_count()}"
        " -noappend -no-progress -quiet -xattrs"
    )


def mkfs_erofs(options):
    return lambda at: f"{at.root_user}mkfs.erofs {options} --quiet $OUT {at.tree} > $OUT.log"


def root(compression):
    return ("--root-compression", compression)


ROWS = [
    Row("squashfs", "kernel+squashfs", "-squashfs.img", "mksquashfs",
        mksquashfs("zstd -Xcompression-level 3"), "zstd 3, 128 KiB"),
    Row("squashfs, xz", "kernel+squashfs", "-squashfs.img", "mksquashfs", mksquashfs("xz"), "xz 6, 128 KiB",
        options=root("xz:6")),
    Row("squashfs, gzip", "kernel+squashfs", "-squashfs.img", "mksquashfs",
        mksquashfs("gzip -Xcompression-level 9"), "gzip 9, 128 KiB", options=root("gzip:9")),
    Row("erofs", "kernel+erofs", "-erofs.img", "mkfs.erofs", mkfs_erofs("-zlz4 -C65536"), "LZ4, 64 KiB"),
    # Not with Zstandard, which Debian 12's mkfs.erofs has not.
    Row("erofs, plain", "kernel+erofs", "-erofs.img", "mkfs.erofs", mkfs_erofs(""), "uncompressed",
        options=root("none")),
    Row("ISO", "kernel+iso", ".iso", "xorriso",
        lambda at: f"{at.root_user}xorriso -report_about FAILURE -as mkisofs -R -J -joliet-long -o $OUT {at.tree} 2> $OUT.log",
        "Rock Ridge, Joliet"),
    Row("ext4 on a GPT disk", "raw", ".img", "mke2fs + genimage", ext4, "ext4", disk="ext4"),
    Row("FAT on a disk", "raw-bios", "-bios.img", "mkfs.fat + mcopy", fat, "these write no disk", kept=ROOTED),
    Row("GPT disk", "raw", ".img", "genimage", genimage, "root made before", kept=ROOTED, disk="erofs"),
    Row("GPT disk, repart", "raw", ".img", "systemd-repart", repart, "root made before", kept=ROOTED, disk="erofs"),
    Row("qcow2", "qcow2", ".qcow2", "qemu-img", convert("-O qcow2"), "uncompressed", kept=ROOTED),
    Row("vmdk", "vmdk", ".vmdk", "qemu-img", convert("-O vmdk -o subformat=streamOptimized"), "deflate", kept=ROOTED),
    Row("vhd", "vhd", ".vhd", "qemu-img", convert("-O vpc -o subformat=fixed,force_size"), "fixed", kept=ROOTED,
        disk="erofs"),
    Row("dynamic-vhd", "dynamic-vhd", ".vhd", "qemu-img",
        convert("-O vpc -o subformat=dynamic,force_size"), "dynamic", kept=ROOTED, disk="erofs"),
    Row("vhdx", "vhdx", ".vhdx", "qemu-img", convert("-O vhdx -o subformat=dynamic"), "dynamic", kept=ROOTED),
    Row("gcp", "gcp", ".img.tar.gz", "tar + gzip",
        lambda at: f"ln -f {at.raw} {at.folder}/disk.raw && truncate -s %1G {at.folder}/disk.raw && "
        f"tar --format=gnu -C {at.folder} -Sc disk.raw | gzip > $OUT", "gzip 6", kept=ROOTED, disk="erofs"),
]  # fmt: skip
SIX = ["kernel+squashfs", "kernel+erofs", "iso", "raw", "qcow2", "vmdk"]
# The other disks are laid out as `raw` is.
BULK = ["kernel+squashfs", "kernel+erofs", "kernel+iso", "kernel+initrd", "raw", "vmdk", "gcp", "tar"]


def tree_size(tree):
    """Returns a size in KiB in which mke2fs finds room for a folder."""
    used = subprocess.run(["du", "-sk", tree], check=True, capture_output=True, text=True)
    return int(used.stdout.split()[0]) * 108 // 100 + (64 << 10)


def stored(path):
    """Returns how much a file takes: holes do not count."""
    return min(path.stat().st_size, path.stat().st_blocks * 512)


def timed(command, cwd, **more):
    """Runs a program; returns its wall time, processor time and peak memory."""
    os.sync()
    started = time.monotonic()
    process = subprocess.Popen(command, cwd=cwd, **more)
    # The peak counts from before exec: this process must stay smaller.
    _, status, used = os.wait4(process.pid, 0)
    wall = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} failed with {process.returncode}")
    return {"wall": wall, "cpu": used.ru_utime + used.ru_stime, "memory": used.ru_maxrss * 1024}


class Side:
    """Builds one system in one format and runs the tools."""

    def __init__(self, moby, folder, manifest, say):
        self.moby, self.work, self.say, self.manifest = moby, folder / "work", say, manifest
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        self.cache, self.out, self.changes = self.work / "cache", self.work / "out", 0
        self.change()

    def change(self):
        self.changes += 1
        (self.work / "payload").write_text(f"change {self.changes}\n")

    def forget(self, kept):
        """Removes what the store derived, but for these kinds."""
        for kind in (self.cache / "derived").iterdir():
            if kind.name not in kept:
                shutil.rmtree(kind)

    def build(self, forms, disk=None, options=()):
        shutil.rmtree(self.out, ignore_errors=True)
        (self.work / "big.yml").write_text(self.manifest(disk))
        command = [self.moby, "--cache", self.cache, "--quiet", "build", "--format", ",".join(forms), *options]
        return timed([*command, "--dir", "out", "big.yml"], self.work)

    def foreign(self, command):
        out = self.work / "foreign"
        for left in self.work.glob("foreign*"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        took = timed(["sh", "-c", f"OUT={out}\n{command}"], self.work)
        return took | {"output": stored(out)}

    def prepare(self):
        """Unpacks the system and lays out its disk, for the tools to begin with."""
        at = Prepared(self.work / "prepared")
        at.tree.mkdir(parents=True)
        self.build(["tar"])
        unpack = f"tar -x --warning=no-unknown-keyword --xattrs --xattrs-include='*' --numeric-owner -f {self.out}/big.tar -C {at.tree}"
        claim = "" if os.geteuid() == 0 else f"fakeroot -s {at.folder}/owners "
        subprocess.run(claim + unpack, shell=True, check=True)
        for name in ("kernel", "cmdline", "ucode.cpio"):
            (at.tree / "boot" / name).unlink(missing_ok=True)
        self.build(["kernel+initrd"])
        shutil.move(self.out / "big-kernel", at.kernel)
        shutil.move(self.out / "big-initrd.img", at.initrd)
        self.build(["kernel+erofs"])
        shutil.move(self.out / "big-erofs.img", at.root)
        shutil.move(self.out / "big-root-initrd.img", at.small)
        self.build(["raw"])
        shutil.move(self.out / "big.img", at.raw)
        return at


def compare(side, at, row, times):
    """Measures one row: first build, the tool, a build after one changed file."""
    side.say(f"building {row.name} beside {row.tool}")
    # What is kept for the row must be there.
    side.build([row.form], row.disk, row.options)
    runs = {"first": [], "tool": [], "changed": []}
    for _ in range(times):
        side.forget(row.kept)
        runs["first"].append(side.build([row.form], row.disk, row.options))
        runs["first"][-1]["output"] = stored(side.out / f"big{row.ending}")
        runs["tool"].append(side.foreign(row.command(at)))
        side.change()
        runs["changed"].append(side.build([row.form], row.disk, row.options))
    median = {
        what: {key: statistics.median(one[key] for one in some) for key in some[0]} for what, some in runs.items()
    }
    return {"what": row.name, "beside": row.tool, "setting": row.setting, **median}


def six_at_once(side, times):
    """Measures six formats by themselves and together; returns the dearest and all."""
    side.say(f"building {', '.join(SIX)} at once")
    measured = {}
    for forms in [*([form] for form in SIX), SIX]:
        some = []
        for _ in range(times):
            side.forget(UNPACKED)
            some.append(side.build(forms))
        measured[",".join(forms)] = {key: statistics.median(one[key] for one in some) for key in some[0]}
    together = measured.pop(",".join(SIX))
    dearest = max(measured, key=lambda form: measured[form]["wall"])
    return {"alone": measured, "dearest": dearest, "together": together}


def bulk(side):
    """Measures the peak memory of images that hold 4 GB of files."""
    rows = []
    for form, disk in [*((form, None) for form in BULK), ("raw", "ext4")]:
        side.say(f"building {form}{f' with {disk}' if disk else ''} of 4 GB")
        rows.append({"format": f"{form}, root: {disk}" if disk else form, **side.build([form], disk)})
        side.forget(UNPACKED)
    return rows


def write_bulk(folder):
    """Writes four files of 1 GB, half of which compresses; returns where."""
    noise = random.Random(4).randbytes(1_000_000)
    for number in range(4):
        path = folder / f"bulk{number}"
        if not path.exists() or path.stat().st_size != 10**9:
            with path.open("wb") as file:
                for block in range(1000):
                    head = f"{number} {block}\n".encode() * 50_000
                    file.write(head[:500_000] + noise[block * 100 : block * 100 + 500_000])
    return [folder / f"bulk{number}" for number in range(4)]


def tables(rows, six, big):
    """Writes all that was measured as Markdown tables."""
    lines = []
    if rows:
        lines += [
            "| what | setting | moby: wall | CPU | memory | size | one file changed | tool | wall | CPU | memory | size"
            " | moby's wall | size |",
            "|---|---|--:|--:|--:|--:|--:|---|--:|--:|--:|--:|--:|--:|",
        ]
    for row in rows:
        moby, tool, changed = row["first"], row["tool"], row["changed"]["wall"]
        cells = [row["what"], row["setting"], *figures(moby), f"{changed:.2f} s ({moby['wall'] / changed:.1f} ×)"]
        cells += [row["beside"], *figures(tool)]
        cells += [f"{moby[key] / tool[key]:.2f} ×" for key in ("wall", "output")]
        lines.append(f"| {' | '.join(cells)} |")
    if six:
        lines += ["", "| six formats | wall | CPU | memory |", "|---|--:|--:|--:|"]
        for forms, took in {**six["alone"], "all at once": six["together"]}.items():
            lines.append(f"| {forms} | {' | '.join(figures(took))} |")
        times = six["together"]["wall"] / six["alone"][six["dearest"]]["wall"]
        lines.append(f"\nAt once {times:.2f} times the dearest, {six['dearest']}.")
    if big:
        lines += ["", "| 4 GB of files | wall | CPU | memory |", "|---|--:|--:|--:|"]
        lines += [f"| {took['format']} | {' | '.join(figures(took))} |" for took in big]
    return "\n".join(lines)


def figures(took):
    """Writes what was measured as cells."""
    cells = [f"{took['wall']:.2f} s", f"{took['cpu']:.2f} s", f"{took['memory'] / 1e6:.0f} MB"]
    return [*cells, f"{took['output'] / 1e6:.1f} MB"] if "output" in took else cells
