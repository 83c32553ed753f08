"""The only code that decodes pictures of strangers; run as a script in a process of its own.

    python -I decoder.py <type> <longest side>  < picture > webp

`python -I` and no import of GenPulse: the process holds no secret, no connection and no environment,
and may use 1 GiB of memory and 10 s of CPU, and write no file. Exit 0: the WebP is on stdout.
"""

import resource
import sys
import warnings

MEMORY = 1 << 30
CPU_SECONDS = 10
PIXELS = 40_000_000
FORMATS = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP", "image/gif": "GIF"}


def confine() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    from PIL import Image, ImageOps

    Image.MAX_IMAGE_PIXELS = PIXELS
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    confine()
    longest = int(sys.argv[2])
    with Image.open(sys.stdin.buffer, formats=[FORMATS[sys.argv[1]]]) as image:
        image.draft("RGB", (longest, longest))
        ImageOps.exif_transpose(image, in_place=True)
        small = image.convert("RGBA" if image.has_transparency_data else "RGB")
        small.thumbnail((longest, longest))
        small.save(sys.stdout.buffer, "WEBP", quality=80, exif=b"")


if __name__ == "__main__":
    main()
