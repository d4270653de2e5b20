"""Times file operations in the folder argv[1] and prints {what: seconds}.

Runs as root in the guest, which may drop its caches: what is read was written
by others, or long ago. The folder is empty before and after.
"""
import json, os, shutil, subprocess, sys, tarfile, io, time

here = os.path.join(sys.argv[1], "bench")
times = {}


def timed(what):
    def wrap(work):
        start = time.monotonic()
        work()
        times[what] = time.monotonic() - start
    return wrap


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("3")


def git(*args):
    subprocess.run(["git", "-c", "safe.directory=*", "-C", here, "-c", "user.name=b",
                    "-c", "user.email=b@b", *args], check=True, stdout=subprocess.DEVNULL)


shutil.rmtree(here, ignore_errors=True)
os.mkdir(here)
big = os.path.join(here, "big")
block = os.urandom(1 << 20)


@timed("write 200 MB, with fsync")
def _():
    with open(big, "wb", buffering=0) as f:
        for _ in range(200):
            f.write(block)
        os.fsync(f.fileno())


drop_caches()


@timed("read 200 MB")
def _():
    with open(big, "rb", buffering=0) as f:
        while f.read(1 << 20):
            pass


os.unlink(big)
names = [os.path.join(here, "d%d" % (i % 20), "f%d" % i) for i in range(2000)]
for i in range(20):
    os.mkdir(os.path.join(here, "d%d" % i))


@timed("create 2000 files of 1 kB")
def _():
    for n in names:
        with open(n, "wb", buffering=0) as f:
            f.write(block[:1024])


drop_caches()


@timed("stat 2000 files")
def _():
    for n in names:
        os.stat(n)


drop_caches()


@timed("open and read 2000 files")
def _():
    for n in names:
        with open(n, "rb", buffering=0) as f:
            f.read()


git("init", "-q")
git("add", "-A")
git("commit", "-q", "-m", "all")
time.sleep(1.1)  # an index as old as its files would make git read them all
git("status")
drop_caches()


@timed("git status on 2000 files")
def _():
    git("status")


shutil.rmtree(os.path.join(here, ".git"))


@timed("remove 2000 files")
def _():
    for n in names:
        os.unlink(n)


archive = "/tmp/bench.tar"
with tarfile.open(archive, "w") as t:
    for i in range(3000):
        info = tarfile.TarInfo("t/p%d/file%d" % (i % 100, i))
        info.size, info.mode, info.mtime = 512 + i % 8 * 1024, 0o644, 1000000000
        t.addfile(info, io.BytesIO(block[:info.size]))


@timed("untar 3000 files")
def _():
    subprocess.run(["tar", "-xf", archive, "-C", here], check=True)


os.unlink(archive)
shutil.rmtree(here)
os.sync()
print(json.dumps(times))
