# Makes a bare Debian tree the default template. $1 is the tree; everything
# runs before the image is made, as (mapped) root.
set -eu
root=$1

# How it was built must not show: the mirror's credentials, apt's and dpkg's
# options of the build, the host's resolver and name.
rm -f "$root/etc/apt/apt.conf.d/99mmdebstrap" "$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap"
rm -f "$root/etc/resolv.conf" "$root/etc/hostname" "$root/var/lib/dbus/machine-id"
rm -f "$root"/etc/ssh/ssh_host_*
: > "$root/etc/machine-id"
: > "$root/etc/apt/sources.list"
cat > "$root/etc/apt/sources.list.d/debian.sources" <<END
Types: deb
URIs: $SBX_MIRROR
Suites: $SBX_SUITE
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
END
# The disk of a sandbox has a journal and files are renamed into place.
echo force-unsafe-io > "$root/etc/dpkg/dpkg.cfg.d/unsafe-io"

echo 'en_US.UTF-8 UTF-8' > "$root/etc/locale.gen"
chroot "$root" locale-gen > /dev/null
echo 'LANG=en_US.UTF-8' > "$root/etc/default/locale"

chroot "$root" groupadd --gid 1000 agent
chroot "$root" useradd --uid 1000 --gid 1000 --groups docker,sudo --create-home --shell /bin/bash agent
chroot "$root" install -d -o agent -g agent /home/agent/workspace
echo 'agent ALL=(ALL:ALL) NOPASSWD:ALL' > "$root/etc/sudoers.d/agent"
chmod 0440 "$root/etc/sudoers.d/agent"

# What a user appends to this file holds for every later bash: by BASH_ENV in
# scripts, by bash.bashrc in interactive shells, by profile.d in login shells.
echo '# Read by every bash in this sandbox.' > "$root/etc/sandbox-persistent.sh"
chroot "$root" chown agent:agent /etc/sandbox-persistent.sh
chmod 0644 "$root/etc/sandbox-persistent.sh"
source='[ ! -r /etc/sandbox-persistent.sh ] || . /etc/sandbox-persistent.sh'
echo "$source" > "$root/etc/profile.d/sandbox-persistent.sh"
# At the top: below, Debian's file returns early in shells without a prompt.
{ echo "$source"; cat "$root/etc/bash.bashrc"; } > "$root/etc/bash.bashrc.new"
cat "$root/etc/bash.bashrc.new" > "$root/etc/bash.bashrc"
rm "$root/etc/bash.bashrc.new"

# Workspaces belong to whoever owns them on the host.
printf '[safe]\n\tdirectory = *\n' > "$root/etc/gitconfig"

rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/cache/debconf/*-old "$root"/var/log/*.log "$root"/var/log/apt
