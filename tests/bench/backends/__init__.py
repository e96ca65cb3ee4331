"""What the workloads run on. Each backend shows a base directory in its own way."""

from .btrfs import Btrfs
from .floor import KeepingFuse, NullFuse
from .fuse_overlayfs import FuseOverlayfs
from .llfs import Llfs
from .overlayfs import Overlayfs
from .plain import Plain
from .shadow_git import ShadowGit

ALL = [Plain(), Llfs(), NullFuse(), KeepingFuse(), Overlayfs(), FuseOverlayfs(), Btrfs(), ShadowGit()]
