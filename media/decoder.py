"""The only code that decodes pictures and films of strangers; run as a script in a process of its own.

    python -I decoder.py        with a Unix socket as stdin

Each message on the socket is `<type> <longest side>` with two descriptors, the file and where its WebP goes: of a film
its first frame. A child is forked for every file, so that none meets what another has left; its exit code is the answer.
`python -I` and no import of GenPulse: no process here holds a secret, a connection or an environment, and the child
may use 1 GiB of memory and 10 s of CPU, and write no file. The socket's end is the end of the process.
"""

import os
import resource
import socket
import sys
import warnings
from typing import BinaryIO, NoReturn

from PIL import GifImagePlugin, Image, ImageOps, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

MEMORY = 1 << 30
CPU_SECONDS = 10
PIXELS = 40_000_000
FILMS = {  # libav's names: it never guesses, as some of its formats read other files
    "video/mp4": "mp4",
    "video/quicktime": "mov",
    "video/webm": "matroska",
    "video/x-matroska": "matroska",
}
FORMATS = {
    "image/png": PngImagePlugin.PngImageFile.format,
    "image/jpeg": JpegImagePlugin.JpegImageFile.format,
    "image/webp": WebPImagePlugin.WebPImageFile.format,
    "image/gif": GifImagePlugin.GifImageFile.format,
}


def confine() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def shrink(source: BinaryIO, target: BinaryIO, content_type: str, longest: int) -> None:
    small = (first_frame if content_type in FILMS else picture)(source, content_type, longest)
    small.thumbnail((longest, longest))
    small.save(target, "WEBP", quality=80, exif=b"")


def picture(source: BinaryIO, content_type: str, longest: int) -> Image.Image:
    with Image.open(source, formats=[FORMATS[content_type]]) as image:
        image.draft("RGB", (longest, longest))
        ImageOps.exif_transpose(image, in_place=True)
        return image.convert("RGBA" if image.has_transparency_data else "RGB")


def first_frame(source: BinaryIO, content_type: str, _longest: int) -> Image.Image:
    """As it is shown: phones write films that lie on their side, and say so."""
    import av  # only a child that needs it loads so much

    # A film may name other files and addresses: no way leads there.
    with av.open(
        source, "r", format=FILMS[content_type], options={"protocol_whitelist": ""}
    ) as film:
        track = film.streams.video[0]
        track.codec_context.thread_count = 1
        if track.width * track.height > PIXELS:
            raise ValueError("too large")
        frame = next(film.decode(track))
        shown: Image.Image = frame.to_image()  # type: ignore[no-untyped-call]
        return shown.rotate(frame.rotation, expand=True)


def obey(order: str, source: int, target: int) -> NoReturn:
    """In the child. Whatever goes wrong, its exit code is not 0."""
    code = 1
    try:
        confine()
        content_type, longest = order.split()
        with open(source, "rb") as file, open(target, "wb") as small:
            shrink(file, small, content_type, int(longest))
        code = 0
    finally:
        os._exit(code)


def serve(orders: socket.socket) -> None:
    while True:
        order, descriptors, _, _ = socket.recv_fds(orders, 256, 2)
        if not order:
            return
        child = os.fork()
        if child == 0:
            orders.close()
            obey(order.decode(), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        _, status = os.waitpid(child, 0)
        orders.send(str(os.waitstatus_to_exitcode(status)).encode())


if __name__ == "__main__":
    Image.MAX_IMAGE_PIXELS = PIXELS
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    serve(socket.socket(fileno=sys.stdin.fileno()))
