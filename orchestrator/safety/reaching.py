"""Which commands reach another machine, by their program and first words.

Packages that are installed by name are left out: what an installer may fetch is the policy's own matter.
"""

from __future__ import annotations

import re

from orchestrator.safety.rulebook import Book

_ALWAYS = frozenset([
    "curl",
    "wget",
    "http",
    "https",
    "httpie",
    "xh",
    "curlie",
    "hurl",
    "aria2c",
    "lynx",
    "w3m",
    "links",
    "elinks",
    "axel",
    "dig",
    "nslookup",
    "host",
    "drill",
    "resolvectl",
    "ping",
    "ping6",
    "fping",
    "traceroute",
    "tracepath",
    "mtr",
    "nc",
    "ncat",
    "netcat",
    "socat",
    "telnet",
    "ssh",
    "autossh",
    "scp",
    "sftp",
    "mosh",
    "rsh",
    "ftp",
    "tftp",
    "lftp",
    "whois",
    "mail",
    "mailx",
    "sendmail",
    "mutt",
    "msmtp",
    "swaks",
    "nmap",
    "masscan",
    "rclone",
    "ngrok",
    "cloudflared",
    "gh",
    "glab",
    "hub",
    "twine",
    "websocat",
    "grpcurl",
    "nats",
    "mosquitto_pub",
    "kafkacat",
    "kcat",
    "getent",
    "busctl",
    "ldapsearch",
    "smbclient",
    "wormhole",
    "croc",
    "transfer",
    "youtube-dl",
    "yt-dlp",
    "svn",
    "hg",
    "bzr",
    "cvs",
    "adb",
])
_LOCAL = frozenset([
    "systemctl",
    "launchctl",
    "supervisorctl",
    "pm2",
    "zfs",
    "zpool",
    "btrfs",
    "lvm",
    "nmcli",
    "networkctl",
    "virsh",
    "lxc",
    "incus",
    "vagrant",
    "multipass",
    "minikube",
    "kind",
    "k3d",
    "smartctl",
    "mdadm",
    "ethtool",
    "loginctl",
    "hwclock",
    "update-alternatives",
    "ldconfig",
    "tune2fs",
    "resize2fs",
    "xfs_admin",
    "fsck",
    "dmsetup",
    "iw",
    "powertop",
    "cpupower",
    "auditctl",
    "restorecon",
    "semanage",
    "ipset",
    "conntrack",
    "fail2ban-client",
])
"""Programs that act on services of this machine, though rules count them among those that act elsewhere."""
_WORDS = {
    "git": "push fetch pull clone ls-remote send-email request-pull remote submodule archive svn lfs",
    "npm": "publish unpublish login adduser access deprecate dist-tag owner star team token",
    "pnpm": "publish login",
    "yarn": "publish login",
    "docker": "push pull login logout search",
    "podman": "push pull login logout search",
    "cargo": "publish login yank owner",
    "gem": "push yank owner",
    "poetry": "publish",
    "uv": "publish",
    "openssl": "s_client s_time ocsp",
    "busybox": "wget nc telnet ftpget ftpput nslookup ping tftp sendmail",
}
_VOLUMES = re.compile(r"lv|vg|pv[acmrs]|fsck\.")
"""How programs begin that act on volumes and file systems."""
_QUIET = re.compile(
    r"git (?:remote(?: (?:-v|show -n|get-url|remove|rename|rm)|$)|submodule (?:status|summary)"
    r"|archive (?!.*--remote))\b"
    r"|(?:docker|podman|nerdctl) (?:(?:(?:container|image|compose|volume|network) )?"
    r"(?:ls|ps|logs|inspect|top|port)|images|info|version|stats|diff|history|system df)\b"
)
"""Commands that only look at what is on this machine."""
_REMOTE = re.compile(r"(?:[\w.-]+@)?[\w.-]{2,}:(?!\\)|(?:rsync|ssh|sftp)://")


def reaches(name: str, arguments: list[str], book: Book) -> bool:
    """Whether a command reaches beyond this machine when it runs."""
    if not arguments:
        return False
    whole = " ".join([name, *(argument for argument in arguments if argument)])
    if _QUIET.match(whole):
        return False
    if name in _ALWAYS or (book.is_outward(name) and name not in _LOCAL and not _VOLUMES.match(name)):
        return arguments[0] not in {"--version", "--help", "-V", "-h"}
    if name in {"rsync", "restic", "borg", "duplicity"}:
        return any(_REMOTE.match(argument) for argument in arguments)
    first = next((argument for argument in arguments if not argument.startswith("-")), "")
    return first in _WORDS.get(name, "").split()


def stays_here(arguments: list[str]) -> bool:
    """Whether every address among the arguments is this machine's own."""
    urls = [item for item in arguments if "://" in item or re.match(r"localhost|127\.|\[::1\]", item)]
    here = re.compile(r"([a-z]+://)?(localhost|127(\.\d+){3}|\[::1\])(:\d+)?(/.*)?")
    return bool(urls) and all(here.fullmatch(url) for url in urls)
