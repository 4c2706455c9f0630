# SPDX-License-Identifier: ISC
# Builds the tree that contains this layer. See docs/yocto.md.
SUMMARY = "Remote access to devices behind NAT"
DESCRIPTION = "A sealed message over MQTT requests a tunnel from a device. Device and operator dial out to a relay, which \
joins them. The tunnel is encrypted end to end."
SECTION = "net"
LICENSE = "ISC"
LIC_FILES_CHKSUM = "file://LICENSE;md5=74f2744289103f628edd49bd0c98474f"

# mosquitto: libmosquitto. scdoc: the manual pages.
DEPENDS = "jansson libconfig libev libseccomp mosquitto openssl scdoc-native uthash"

inherit externalsrc meson pkgconfig systemd useradd

GOTTHARD_TREE = "${@os.path.abspath(d.getVar('FILE_DIRNAME') + '/../../../../..')}"
EXTERNALSRC = "${GOTTHARD_TREE}"
GOTTHARD_VERSION_FILE = "${GOTTHARD_TREE}/common/VERSION"
PV = "${@oe.utils.read_file(d.getVar('GOTTHARD_VERSION_FILE'))}"
python () {
    bb.parse.mark_dependency(d, d.getVar('GOTTHARD_VERSION_FILE'))
}

# A warning of a newer compiler does not break the image.
EXTRA_OEMESON = "\
    -Dtests=false \
    -Dsystemdsystemunitdir=${systemd_system_unitdir} \
    -Dsysusersdir=${nonarch_libdir}/sysusers.d \
    ${@' '.join(f'-D{part}werror=false' for part in ('', 'common:', 'gotthard-relayd:', 'gotthard-agentd:', 'gotthard-cli:'))} \
"

PACKAGE_BEFORE_PN = "${PN}-relayd ${PN}-agentd ${PN}-cli ${PN}-demo"

FILES:${PN}-relayd = "\
    ${sbindir}/gotthard-relayd \
    ${sysconfdir}/gotthard/relayd.conf.d \
    ${systemd_system_unitdir}/gotthard-relayd.service \
    ${nonarch_libdir}/sysusers.d/gotthard-relayd.conf \
"
FILES:${PN}-agentd = "\
    ${sbindir}/gotthard-agentd \
    ${sysconfdir}/gotthard/agentd.conf.d \
    ${systemd_system_unitdir}/gotthard-agentd.service \
    ${nonarch_libdir}/sysusers.d/gotthard-agentd.conf \
"
FILES:${PN}-cli = "\
    ${bindir}/gotthard \
    ${bindir}/gotthard-cli \
    ${sysconfdir}/gotthard/cli.conf.d \
    ${sysconfdir}/ssh/ssh_config.d/30-gotthard.conf \
    ${datadir}/bash-completion \
    ${datadir}/fish \
    ${datadir}/zsh \
"
FILES:${PN}-demo = "${bindir}/gotthard-demo ${datadir}/gotthard/demo"
CONFFILES:${PN}-cli = "${sysconfdir}/ssh/ssh_config.d/30-gotthard.conf"
RDEPENDS:${PN}-demo = "${PN}-agentd ${PN}-cli ${PN}-relayd bash mosquitto openssh openssl-bin"
# The package without a part in its name would be empty.
RDEPENDS:${PN} = "${PN}-agentd"
ALLOW_EMPTY:${PN} = "1"

# As on Debian, units are enabled when the key is installed, not before.
SYSTEMD_PACKAGES = "${PN}-relayd ${PN}-agentd"
SYSTEMD_SERVICE:${PN}-relayd = "gotthard-relayd.service"
SYSTEMD_SERVICE:${PN}-agentd = "gotthard-agentd.service"
SYSTEMD_AUTO_ENABLE = "disable"

USERADD_PACKAGES = "${PN}-relayd ${PN}-agentd"
GOTTHARD_USER = "--system --no-create-home --home-dir /nonexistent --shell ${base_sbindir}/nologin --user-group"
USERADD_PARAM:${PN}-relayd = "${GOTTHARD_USER} gotthard-relayd"
USERADD_PARAM:${PN}-agentd = "${GOTTHARD_USER} gotthard-agentd"
