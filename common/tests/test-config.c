/* SPDX-License-Identifier: ISC */
/*
 * The layers and their order, one text after another that a file, a variable or a flag may hold,
 * and the files that are none. A table of this test's own stands for a program's.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include <cmocka.h>

#include "gotthard/configlayers.h"

struct settings {
    char *host, *name, *text, *path, *key, *level;
    uint64_t port, from, to, window, buffer;
    bool is_single;
    struct gt_config_map services;
};

#define AT(field) offsetof(struct settings, field)
static const struct gt_config_item items[] = {
    {.path = "server.host", "T_HOST", "server-host", GT_CONFIG_HOST, AT(host), .help = "The host."},
    {.path = "server.port", "T_PORT", "server-port", GT_CONFIG_NUMBER, AT(port), "7000", 1, 65535},
    {.path = "server.ports_from", "T_FROM", NULL, GT_CONFIG_NUMBER, AT(from), "7001", 1, 65535},
    {.path = "server.ports_to", "T_TO", NULL, GT_CONFIG_NUMBER, AT(to), "7999", 1, 65535},
    {.path = "server.single_port",
     "T_SINGLE",
     "single-port",
     GT_CONFIG_BOOL,
     AT(is_single),
     "false"},
    {.path = "crypt.key", "T_KEY", NULL, GT_CONFIG_SECRET, AT(key)},
    {.path = "device.name", "T_NAME", "name", GT_CONFIG_NAME, AT(name)},
    {.path = "mqtt.username", "T_TEXT", NULL, GT_CONFIG_STRING, AT(text)},
    {.path = "mqtt.cert_path", "T_PATH", NULL, GT_CONFIG_PATH, AT(path), "/etc/certs"},
    {.path = "trust.policy",
     "T_POLICY",
     NULL,
     GT_CONFIG_CHOICE,
     AT(level),
     "auto",
     .choices = "auto psk pin"},
    {.path = "resume_window",
     "T_WINDOW",
     "window",
     GT_CONFIG_DURATION,
     AT(window),
     "120s",
     1000,
     3600000},
    {.path = "stream.buffer", "T_BUFFER", NULL, GT_CONFIG_SIZE, AT(buffer), "1MiB", 65536, 1 << 26},
    {.path = "services", "T_SERVICES", NULL, GT_CONFIG_MAP, AT(services), "ssh=127.0.0.1:22"},
};

static const char *check(const void *opaque, char *ret_why, size_t cap)
{
    const struct settings *settings = opaque;
    if (settings->from <= settings->to)
        return NULL;
    snprintf(ret_why, cap, "it is above server.ports_to");
    return "server.ports_from";
}

static const struct gt_config_program program = {
    "test", items, GT_ARRAY_SIZE(items), sizeof(struct settings), true, check};

/* A folder of its own for each test, as $GOTTHARD_CONFIG_DIR and as $HOME. */
static char folder[64];
static char error[GT_CONFIG_ERROR_MAX];

static int set_up(void **state)
{
    strcpy(folder, "/tmp/test-config.XXXXXX");
    assert_non_null(mkdtemp(folder));
    assert_int_equal(setenv("GOTTHARD_CONFIG_DIR", folder, 1), 0);
    assert_int_equal(setenv("HOME", folder, 1), 0);
    unsetenv("XDG_CONFIG_HOME");
    unsetenv("CREDENTIALS_DIRECTORY");
    for (size_t i = 0; i < GT_ARRAY_SIZE(items); i++)
        unsetenv(items[i].env);
    unsetenv("T_KEY_FILE");
    error[0] = 0;
    return 0;
}

static int tear_down(void **state)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    return system(command);
}

static const char *in_folder(const char *name)
{
    static char path[256];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static void put_bytes(const char *name, const char *text, size_t n, mode_t mode)
{
    const char *path = in_folder(name);
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, n), n);
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static void put(const char *name, const char *text)
{
    put_bytes(name, text, strlen(text), 0640);
}

static void make_folder(const char *name)
{
    assert_int_equal(mkdir(in_folder(name), 0755), 0);
}

static struct gt_config *load_with(const char *const *sets, size_t n_sets)
{
    struct gt_config *config = NULL;
    struct gt_config_args args = {NULL, sets, n_sets};
    int r = gt_config_load(&program, &args, &config, error);
    if (r != 0)
        print_error("load: %d %s\n", r, error);
    assert_int_equal(r, 0);
    return config;
}

static struct gt_config *load(void)
{
    return load_with(NULL, 0);
}

static const struct settings *settings_of(const struct gt_config *config)
{
    return gt_config_settings(config);
}

/* Is refused, and the sentence holds @part. */
static void refused_with(const struct gt_config_args *args, const char *part)
{
    struct gt_config *config = NULL;
    error[0] = 0;
    int r = gt_config_load(&program, args, &config, error);
    if (r != GT_CONFIG_E_BAD || !strstr(error, part))
        print_error("wanted \"%s\", got %d \"%s\"\n", part, r, error);
    assert_int_equal(r, GT_CONFIG_E_BAD);
    assert_non_null(strstr(error, part));
    assert_null(config);
}

static void refused(const char *part)
{
    refused_with(NULL, part);
}

static void test_defaults(void **state)
{
    struct gt_config *config = load();
    const struct settings *s = settings_of(config);
    assert_null(s->host);
    assert_null(s->key);
    assert_int_equal(s->port, 7000);
    assert_int_equal(s->window, 120000);
    assert_int_equal(s->buffer, 1 << 20);
    assert_false(s->is_single);
    assert_string_equal(s->level, "auto");
    assert_string_equal(gt_config_map_get(&s->services, "ssh"), "127.0.0.1:22");
    assert_null(gt_config_map_get(&s->services, "web"));
    assert_false(gt_config_is_set(config, "server.port"));
    assert_string_equal(gt_config_origin(config, "server.port"), "default");
    gt_config_free(config);
    assert_null(gt_config_free(NULL));
}

static void assert_port(uint64_t port, const char *origin)
{
    struct gt_config *config = load();
    assert_int_equal(settings_of(config)->port, port);
    assert_non_null(strstr(gt_config_origin(config, "server.port"), origin));
    assert_true(gt_config_is_set(config, "server.port"));
    gt_config_free(config);
}

static void test_layers(void **state)
{
    const char *flags[] = {"server-port", "7006"};

    setenv("T_PORT", "7001", 1);
    assert_port(7001, "T_PORT");
    put("test.conf", "# the relay\nserver: { port = 7002; };\n");
    assert_port(7002, "/test.conf:2");
    make_folder("test.conf.d");
    put("test.conf.d/10-a.conf", "server = {\n\n port = 7003; }");
    assert_port(7003, "/test.conf.d/10-a.conf:3");
    put("test.conf.d/20-b.conf", "server = { port = 7004; }");
    put("test.conf.d/30-c.conf.bak", "server = { port = 1; }");
    put("test.conf.d/.hidden.conf", "server = { port = 2; }");
    assert_port(7004, "/test.conf.d/20-b.conf:1");
    make_folder(".config");
    make_folder(".config/gotthard");
    put(".config/gotthard/test.conf", "server = { port = 7005; }");
    assert_port(7005, "/.config/gotthard/test.conf:1");

    struct gt_config *config = load_with(flags, 1);
    assert_int_equal(settings_of(config)->port, 7006);
    assert_string_equal(gt_config_origin(config, "server.port"), "--server-port");
    gt_config_free(config);

    /* --config FILE stands for all files, not for the variables. */
    put("other", "device = { name = \"x\"; }");
    struct gt_config_args args = {in_folder("other"), NULL, 0};
    assert_int_equal(gt_config_load(&program, &args, &config, error), 0);
    assert_int_equal(settings_of(config)->port, 7001);
    gt_config_free(config);

    setenv("T_PORT", "0", 1);
    refused("T_PORT: server.port: \"0\" is out of range");
}

static char *shown(const struct gt_config *config)
{
    static char text[8192];
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    gt_config_show(config, fds[1]);
    close(fds[1]);
    ssize_t n = read(fds[0], text, sizeof(text) - 1);
    assert_true(n > 0);
    text[n] = 0;
    close(fds[0]);
    return text;
}

static void test_show(void **state)
{
    const char *flags[] = {"server-port", "7002"};
    put("test.conf", "server = { port = 7001; }; crypt = { key = \"hush\"; };");
    setenv("T_KEY", "hush hush", 1);
    setenv("T_TEXT", "J\xc3\xbcrg", 1);
    struct gt_config *config = load_with(flags, 1);
    const char *text = shown(config);
    char line[512];
    snprintf(line, sizeof(line), "server.port = 7002   # --server-port\n#   hides 7001   # %s:1\n",
             in_folder("test.conf"));
    assert_non_null(strstr(text, line));
    snprintf(line, sizeof(line), "crypt.key = set   # %s:1\n#   hides set   # T_KEY\n",
             in_folder("test.conf"));
    assert_non_null(strstr(text, line));
    assert_null(strstr(text, "hush"));
    assert_non_null(strstr(text, "mqtt.username = J\\xc3\\xbcrg   # T_TEXT\n"));
    assert_non_null(strstr(text, "resume_window = 120s   # default\n"));
    assert_non_null(strstr(text, "server.host =    # default\n"));
    gt_config_free(config);
}

/* Text of a value, as it stands in a file and in a variable; NULL: good. */
struct value_case {
    const char *path, *env, *file, *variable, *why;
};

static const struct value_case value_cases[] = {
    {"port", "T_PORT", "1", "1", NULL},
    {"port", "T_PORT", "65535", "65535", NULL},
    {"port", "T_PORT", "0", "0", "\"0\" is out of range; it takes a whole number from 1 to 65535"},
    {"port", "T_PORT", "65536", "65536", "\"65536\" is out of range"},
    {"port", "T_PORT", "2147483647", "2147483647", "out of range"},
    {"port", "T_PORT", "2147483648", NULL, ":1: this number is too long"},
    {"port", "T_PORT", "4294967318", NULL, "too long"},
    {"port", "T_PORT", NULL, "4294967318", "out of range"},
    {"port", "T_PORT", NULL, "18446744073709551638", "server.port"},
    {"port", "T_PORT", "99999999999999", NULL, "too long"},
    {"port", "T_PORT", NULL, "99999999999999", "out of range"},
    {"port", "T_PORT", "-22", NULL, "decimal digits only"},
    {"port", "T_PORT", "+22", NULL, "decimal digits only"},
    {"port", "T_PORT", "0x16", NULL, "decimal digits only"},
    {"port", "T_PORT", "0X16", NULL, "decimal digits only"},
    {"port", "T_PORT", "022", NULL, "does not begin with 0"},
    {"port", "T_PORT", "0b11", NULL, "decimal digits only"},
    {"port", "T_PORT", "22L", NULL, "decimal digits only"},
    {"port", "T_PORT", "22LL", NULL, "decimal digits only"},
    {"port", "T_PORT", "22.0", NULL, "decimal digits only"},
    {"port", "T_PORT", ".5", NULL, "decimal digits only"},
    {"port", "T_PORT", "1e3", NULL, "decimal digits only"},
    {"port", "T_PORT", "\"22\"", NULL,
     "wrong type; it takes a whole number from 1 to 65535, without"},
    {"port", "T_PORT", "true", NULL, "wrong type"},
    {"port", "T_PORT", "[1]", NULL, "lists are not taken"},
    {"port", "T_PORT", "(1)", NULL, "lists are not taken"},
    {"port", "T_PORT", "{ a = 1; }", NULL, "wrong type"},
    {"port", "T_PORT", "", NULL, "syntax error"},
    {"port", "T_PORT", NULL, "", "T_PORT: server.port: \"\" is not right; it takes a whole number"},
    {"port", "T_PORT", NULL, " ", "not right"},
    {"port", "T_PORT", NULL, "+22", "not right"},
    {"port", "T_PORT", NULL, " 22", "not right"},
    {"port", "T_PORT", NULL, "22 ", "not right"},
    {"port", "T_PORT", NULL, "22\n", "is not printable"},
    {"port", "T_PORT", NULL, "0x16", "not right"},
    {"port", "T_PORT", NULL, "022", "not right"},
    {"port", "T_PORT", NULL, "22.0", "not right"},
    {"port", "T_PORT", NULL, "1e3", "not right"},
    {"single_port", "T_SINGLE", "true", "yes", NULL},
    {"single_port", "T_SINGLE", "FALSE", "off", NULL},
    {"single_port", "T_SINGLE", "1", "2", "server.single_port"},
    {"single_port", "T_SINGLE", "\"true\"", "", "server.single_port"},
    {"single_port", "T_SINGLE", "yes", NULL, "syntax error"},
    {"host", "T_HOST", "\"relay.example.org\"", "relay.example.org", NULL},
    {"host", "T_HOST", "\"::1\"", "192.0.2.1", NULL},
    {"host", "T_HOST", "\"\"", "", NULL},
    {"host", "T_HOST", "\"https://relay\"", "https://relay", "without scheme and port"},
    {"host", "T_HOST", "\"relay:7000\"", "relay:7000", "server.host"},
    {"host", "T_HOST", "\"a b\"", "a b", "server.host"},
    {"host", "T_HOST", "22", " ", "server.host"},
    {"host", "T_HOST", "\"open", NULL, "a text is not closed"},
    {"host", "T_HOST", "\"a\nb\"", NULL, "a text is not closed"},
    {"host", "T_HOST", "\"a\\x00b\"", NULL, "a backslash"},
    {"host", "T_HOST", "\"a\\nb\"", NULL, "a backslash"},
    {"host", "T_HOST",
     "\"a\xff"
     "b\"",
     "a\xff"
     "b",
     "is not printable UTF-8"},
};

static void test_values(void **state)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(value_cases); i++) {
        const struct value_case *c = &value_cases[i];
        char text[256];
        if (c->file) {
            snprintf(text, sizeof(text), "server = { %s = %s; };", c->path, c->file);
            put("test.conf", text);
            if (c->why)
                refused(c->why);
            else
                gt_config_free(load());
            unlink(in_folder("test.conf"));
        }
        if (c->variable) {
            setenv(c->env, c->variable, 1);
            if (c->why)
                refused(c->why);
            else
                gt_config_free(load());
            unsetenv(c->env);
        }
    }
}

static const struct {
    const char *env, *text, *why;
} variable_cases[] = {
    {"T_NAME", "GatewayOli", NULL},
    {"T_NAME", "", NULL},
    {"T_NAME", "a/b", "device.name: \"a/b\" is not right; it takes a name"},
    {"T_NAME", "-x", "device.name"},
    {"T_NAME", "a b", "device.name"},
    {"T_NAME", "#", "device.name"},
    {"T_TEXT", "J\xc3\xbcrg \xe2\x82\xac \xf0\x9f\x8f\x94", NULL},
    {"T_TEXT", "caf\xe9", "is not printable"},      /* Latin-1 */
    {"T_TEXT", "\xc0\xaf", "is not printable"},     /* overlong */
    {"T_TEXT", "\xed\xa0\x80", "is not printable"}, /* surrogate */
    {"T_TEXT", "\xf4\x90\x80\x80", "is not printable"},
    {"T_TEXT", "\xe2\x82", "is not printable"}, /* cut */
    {"T_TEXT", "\xc2\x85", "is not printable"}, /* NEL */
    {"T_TEXT", "\x1b[31m", "\\x1b[31m"},
    {"T_TEXT", "a\nb", "is not printable"},
    {"T_TEXT", "a\x7f", "is not printable"},
    {"T_POLICY", "pin", NULL},
    {"T_POLICY", "", "one of: auto psk pin"},
    {"T_POLICY", "PIN", "one of: auto psk pin"},
    {"T_POLICY", "psk pin", "one of"},
    {"T_POLICY", "pi", "one of"},
    {"T_WINDOW", "1s", NULL},
    {"T_WINDOW", "1000ms", NULL},
    {"T_WINDOW", "999ms", "from 1s to 1h"},
    {"T_WINDOW", "1h", NULL},
    {"T_WINDOW", "61min", "is out of range"},
    {"T_WINDOW", "120", "it takes a duration such as \"30s\""},
    {"T_WINDOW", "", "a duration"},
    {"T_WINDOW", "0", "is out of range"},
    {"T_BUFFER", "64KiB", NULL},
    {"T_BUFFER", "64MiB", NULL},
    {"T_BUFFER", "65MiB", "from 64KiB to 64MiB"},
    {"T_BUFFER", "1MB", "a size such as"},
    {"T_BUFFER", "65536", "a size such as"},
    {"T_SERVICES", "a=b:1,c=d:2", NULL},
    {"T_SERVICES", "", NULL},
    {"T_SERVICES", "a=b,a=c", "services"},
    {"T_SERVICES", "a=b,", "services"},
    {"T_SERVICES", ",", "services"},
    {"T_SERVICES", "a", "services"},
    {"T_SERVICES", "=b", "services"},
    {"T_SERVICES", "a=", "services"},
    {"T_FROM", "8000", "T_FROM: server.ports_from: it is above server.ports_to"},
};

static void test_variables(void **state)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(variable_cases); i++) {
        setenv(variable_cases[i].env, variable_cases[i].text, 1);
        if (variable_cases[i].why)
            refused(variable_cases[i].why);
        else
            gt_config_free(load());
        unsetenv(variable_cases[i].env);
    }
    gt_cleanup(gt_free) char *big = malloc(1 << 20);
    assert_non_null(big);
    memset(big, 'a', (1 << 20) - 1);
    big[(1 << 20) - 1] = 0;
    for (size_t i = 0; i < GT_ARRAY_SIZE(items); i++) {
        setenv(items[i].env, big, 1);
        refused("is longer than 4096 bytes");
        if (items[i].type == GT_CONFIG_SECRET) {
            setenv(items[i].env, "", 1);
            gt_config_free(load());
        }
        unsetenv(items[i].env);
    }
}

static const struct {
    const char *text, *why;
} file_cases[] = {
    {"", NULL},
    {"\n\n", NULL},
    {"# only a comment", NULL},
    {"// another", NULL},
    {"/* and\n another */", NULL},
    {"server = { port = 22; };\r\n# crlf\r\n", NULL},
    {"server : { port : 22 }", NULL},
    {"services = { };", NULL},
    {"services = { ssh = \"a:22\"; web-ui = \"b:80\"; };", NULL},
    {"server = { port = 22; }; # latin-1 in a comment: \xe9\n", NULL},
    {"mqtt = { username = \"a \\\"b\\\" \\\\ # // /* c\"; };", NULL},
    {"mqtt = { username = \"\"; };", NULL},
    {"server = {\n prot = 22; };",
     "test.conf:2: server.prot is unknown; did you mean server.port?"},
    {"zzz = 1;", "zzz is unknown; `gotthard-test --help`"},
    {"server = 1;", "server is a group"},
    {"server = \"x\";", "server is a group"},
    {"server = { host = { a = 1; }; };", "server.host: wrong type"},
    {"server = { port = 1; port = 2; };", "duplicate"},
    {"server = { port = 1; };\nserver = { port = 2; };", "test.conf:2: duplicate"},
    {"services = { a = 1; };", "services.a is not right; it takes one text"},
    {"services = { a = \"\"; };", "services.a"},
    {"services = { a = \"b,c\"; };", "services.a"},
    {"services = \"ssh=a:1\";", "services: wrong type"},
    {"services = { a = { b = \"c\"; }; };", "services.a"},
    {"resume_window = 120;", "takes a duration such as \"30s\" from 1s to 1h, in quotes"},
    {"resume_window = \"2h\";", ":1: resume_window: \"2h\" is out of range"},
    {"server = { port = 22; ", "a bracket is not closed"},
    {"server = { port = 22; }};", "a bracket is closed that was not opened"},
    {"/* a\n b", "test.conf:1: a comment is not closed"},
    {"server = { };\n/*", ":2: a comment is not closed"},
    {"@include \"x\"", ":1: @include is not taken"},
    {"\n  @include \"/etc\"", ":2: @include is not taken"},
    {"a = @include;", "@include is not taken"},
    {"\xef\xbb\xbfserver = { };", "byte order mark"},
    {"\xff\xfes\0", "a sign that means nothing"},
    {"server = { port = 22 } \xe9", "a sign that means nothing"},
    {"server = { port == 22; }", "syntax error"},
    {"server.port = 22;", "decimal digits only"},
    {"[server]\nport = 22", "lists are not taken"},
    {"{ \"server\": 22 }", "a text where none belongs"},
    {"port 22", "syntax error"},
    {"a = {b={c={d={};};};};", "a is unknown"},
    {"a = {b={c={d={e={};};};};};", "nested too deep"},
};

static void test_files(void **state)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(file_cases); i++) {
        put("test.conf", file_cases[i].text);
        if (file_cases[i].why)
            refused(file_cases[i].why);
        else
            gt_config_free(load());
    }
    put_bytes("test.conf", "server\0 = 1;", 12, 0640);
    refused("holds a NUL byte");
}

/* A file of @n bytes: @unit again and again. */
static void put_repeated(const char *unit, size_t n)
{
    gt_cleanup(gt_free) char *text = malloc(n + 1);
    assert_non_null(text);
    size_t n_unit = strlen(unit);
    for (size_t i = 0; i < n; i++)
        text[i] = unit[i % n_unit];
    put_bytes("test.conf", text, n, 0640);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void test_big_files(void **state)
{
    double start = seconds();
    put_repeated("# comment\n", 65536);
    gt_config_free(load());
    put_repeated("# comment\n", 65537);
    refused("test.conf: too long");
    put_repeated("a{", 400000);
    refused("too long");
    put_repeated("a={", 60000);
    refused("nested too deep");
    put_repeated("abc=1;\n", 700000);
    refused("too long");
    put_repeated("abc=1;\n", 65000);
    refused("too many settings");
    put_repeated("a", 65536);
    refused("syntax error");
    put_repeated("1", 65536);
    refused("too long; the greatest");
    put_repeated("\"a\" ", 65536);
    refused("a text where none belongs");
    put_repeated("x={};", 5000);
    refused("duplicate");
    assert_true(seconds() - start < 5);
}

static void test_settings_limit(void **state)
{
    char text[32768];
    for (int n = 999; n <= 1001; n++) {
        size_t at = (size_t)sprintf(text, "services={");
        for (int i = 1; i < n; i++)
            at += (size_t)sprintf(text + at, "s%d=\"h:1\";", i);
        sprintf(text + at, "};");
        put("test.conf", text);
        refused(n <= 1000 ? "services" : "too many settings"); /* a map ends at 4096 bytes */
    }
}

static void test_no_files(void **state)
{
    const char *path;
    make_folder("folder");
    put("plain", "");
    assert_int_equal(symlink("/nonexistent/nowhere", in_folder("test.conf")), 0);
    refused("No such file");
    assert_int_equal(unlink(in_folder("test.conf")), 0);
    assert_int_equal(mkfifo(in_folder("test.conf"), 0600), 0);
    refused("not a regular file");
    unlink(in_folder("test.conf"));
    assert_int_equal(symlink("/dev/zero", in_folder("test.conf")), 0);
    refused("not a regular file");
    unlink(in_folder("test.conf"));
    assert_int_equal(symlink("test.conf", in_folder("test.conf")), 0);
    refused("symbolic links");
    unlink(in_folder("test.conf"));
    make_folder("test.conf");
    refused("not a regular file");
    rmdir(in_folder("test.conf"));

    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    path = in_folder("test.conf");
    snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", path);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    refused("No such device");
    close(fd);
    unlink(path);

    put("test.conf.d", "a file where a folder should be");
    refused("Not a directory");
    unlink(in_folder("test.conf.d"));
    make_folder("test.conf.d");
    assert_int_equal(symlink("nowhere", in_folder("test.conf.d/a.conf")), 0);
    refused("test.conf.d/a.conf: No such file");
    unlink(in_folder("test.conf.d/a.conf"));

    struct gt_config_args args = {"/nonexistent/x.conf", NULL, 0};
    refused_with(&args, "/nonexistent/x.conf: No such file");
}

static void test_modes(void **state)
{
    put_bytes("test.conf", "", 0, 0642);
    refused("others may write it");
    put_bytes("test.conf", "", 0, 0644);
    gt_config_free(load());
    const char *key = "crypt = { key = \"hush\"; };";
    put_bytes("test.conf", key, strlen(key), 0644);
    refused("crypt.key: others may read this file; chmod o-rwx it, or write crypt.key_file");
    put_bytes("test.conf", key, strlen(key), 0640);
    gt_config_free(load());
    if (geteuid() != 0) {
        put_bytes("test.conf", "", 0, 0200);
        refused("Permission denied");
    }
    unlink(in_folder("test.conf"));

    setenv("T_KEY_FILE", in_folder("key"), 1);
    put_bytes("key", "hush\n", 5, 0604);
    refused("T_KEY_FILE: crypt.key:");
    put_bytes("key", "hush\n", 5, 0602);
    refused("others may read or write it");
    put_bytes("key", "\n", 1, 0600);
    refused("the file is empty");
    put_bytes("key", "hush", 4, 0600);
    gt_config_free(load());
    unlink(in_folder("key"));
    refused("No such file");
    make_folder("key");
    refused("not a regular file");
}

static void assert_key(const char *key, const char *origin)
{
    struct gt_config *config = load();
    assert_string_equal(settings_of(config)->key, key);
    assert_non_null(strstr(gt_config_origin(config, "crypt.key"), origin));
    gt_config_free(config);
}

static void on_taken(void *userdata, const char *variable, const char *text)
{
    assert_string_equal(variable, "T_KEY");
    snprintf(userdata, 64, "%s", text);
}

/* As a program does that executes itself anew. */
static void test_taken_secrets_are_handed_on(void **state)
{
    char text[64] = "";
    setenv("T_KEY", "swordfish", 1);
    assert_key("swordfish", "T_KEY");
    gt_config_each_taken(on_taken, text);
    assert_string_equal(text, "swordfish");
    gt_configlayers_forget_taken();
    struct gt_config *config = load();
    assert_null(settings_of(config)->key);
    gt_config_free(config);
    assert_int_equal(gt_config_keep_taken("T_KEY", text), 0);
    assert_key("swordfish", "T_KEY");
}

static void test_secrets(void **state)
{
    static char variable[] = "T_KEY=swordfish";
    assert_int_equal(putenv(variable), 0);
    assert_key("swordfish", "T_KEY");
    assert_null(getenv("T_KEY"));
    for (size_t i = 6; i < sizeof(variable); i++)
        assert_int_equal(variable[i], 0);
    assert_key("swordfish", "T_KEY"); /* a reload has the copy */

    setenv("T_KEY", "with\nbreak", 1);
    refused("T_KEY: crypt.key is not printable");
    assert_null(strstr(error, "break"));
    assert_null(getenv("T_KEY"));
    setenv("T_KEY", "new", 1);
    setenv("T_PORT", "x", 1); /* judged before it, taken all the same */
    refused("T_PORT");
    assert_null(getenv("T_KEY"));
    unsetenv("T_PORT");
    assert_key("new", "T_KEY");

    put_bytes("key", "of a file\r\n", 11, 0600);
    setenv("T_KEY_FILE", in_folder("key"), 1);
    refused("T_KEY_FILE: crypt.key is given twice, also by T_KEY");
    setenv("T_KEY", "", 1);
    assert_key("of a file", "T_KEY_FILE");
    static const char *const of_lines[] = {"T_KEY=lines\n", "T_IV=salt\r\nT_KEY=lines\r\n",
                                           "\nNOT_T_KEY=a\nT_KEYS=b\nT_KEY=lines\nT_KEY=c"};
    for (size_t i = 0; i < GT_ARRAY_SIZE(of_lines); i++) {
        put_bytes("key", of_lines[i], strlen(of_lines[i]), 0600);
        assert_key("lines", "T_KEY_FILE");
    }
    put_bytes("key", "T_KEY=\nT_IV=salt\n", 17, 0600);
    refused("the file is empty");
    put_bytes("key", "T_IV=salt\nT_OTHER=x\n", 20, 0600);
    refused("is not printable");
    put_bytes("key", "of a file\r\n", 11, 0600);
    unsetenv("T_KEY_FILE");

    make_folder("credentials");
    put_bytes("credentials/t_key", "of systemd", 10, 0400);
    setenv("CREDENTIALS_DIRECTORY", in_folder("credentials"), 1);
    setenv("T_KEY", "variable", 1);
    assert_key("of systemd", "credentials/t_key");

    char text[512];
    snprintf(text, sizeof(text), "crypt = {\n key_file = \"%s\"; };", in_folder("key"));
    put_bytes("test.conf", text, strlen(text), 0644);
    assert_key("of a file", "test.conf:2");
    snprintf(text, sizeof(text), "crypt = { key = \"a\"; key_file = \"%s\"; };", in_folder("key"));
    put("test.conf", text);
    refused("crypt.key is given twice");
    put("test.conf", "crypt = { key = 22; };");
    refused("crypt.key: wrong type");
    put("test.conf", "crypt = { kee = \"x\"; };");
    refused("did you mean crypt.key");
}

static void test_read_file(void **state)
{
    char *text = NULL;
    size_t n = 0;
    const char *why = NULL;

    put_bytes("a", "12345", 5, 0644);
    assert_int_equal(gt_config_read_file(in_folder("a"), 5, false, &text, &n, &why), 0);
    assert_string_equal(text, "12345");
    assert_int_equal(n, 5);
    free(text);
    text = NULL;
    assert_int_equal(gt_config_read_file(in_folder("a"), 4, false, &text, &n, &why), 1);
    assert_string_equal(why, "too long");
    assert_int_equal(gt_config_read_file(in_folder("a"), 5, true, &text, &n, &why), 1);
    assert_int_equal(chmod(in_folder("a"), 0646), 0);
    assert_int_equal(gt_config_read_file(in_folder("a"), 5, false, &text, &n, &why), 1);
    assert_string_equal(why, "others may write it; take that away with chmod o-w");
    put_bytes("a", "1\0", 2, 0600);
    assert_int_equal(gt_config_read_file(in_folder("a"), 5, true, &text, &n, &why), 1);
    assert_null(text);
}

/* What the program of this test knows itself. */
struct own {
    bool is_quiet;
    const char *bind;
    const char *words[4];
    size_t n_words;
};

static int own_other(void *userdata, const char *option, const char *value, bool *ret_takes_value)
{
    struct own *own = userdata;
    if (strcmp(option, "-q") == 0 || strcmp(option, "--quiet") == 0) {
        own->is_quiet = true;
        return 0;
    }
    if (strcmp(option, "--bind") == 0 || strcmp(option, "-b") == 0) {
        *ret_takes_value = true;
        own->bind = value;
        return 0;
    }
    return 1;
}

static int own_word(void *userdata, const char *word)
{
    struct own *own = userdata;
    if (own->n_words == GT_ARRAY_SIZE(own->words))
        return 1;
    own->words[own->n_words++] = word;
    return strcmp(word, "ssh") == 0 ? GT_CONFIG_WORDS_ONLY : 0;
}

#define ARGV_MAX 8
static const struct {
    const char *argv[ARGV_MAX];
    const char *why; /* NULL: good, and: */
    const char *sets[4], *words[3], *bind;
} args_cases[] = {
    {.argv = {NULL}, NULL},
    {.argv = {"--server-port", "22"}, NULL, {"server-port", "22"}},
    {.argv = {"--server-port=22", "a", "--name", "x", "b"},
     NULL,
     {"server-port", "22", "name", "x"},
     {"a", "b"}},
    {.argv = {"--single-port"}, NULL, {"single-port", "true"}},
    {.argv = {"--single-port=off", "a"}, NULL, {"single-port", "off"}, {"a"}},
    {.argv = {"--single-port", "a"}, NULL, {"single-port", "true"}, {"a"}},
    {.argv = {"--no-single-port"}, NULL, {"single-port", "false"}},
    {.argv = {"--name", "--server-port"}, NULL, {"name", "--server-port"}},
    {.argv = {"--name="}, NULL, {"name", ""}},
    {.argv = {"-q", "--bind", "*", "-"}, NULL, {NULL}, {"-"}, "*"},
    {.argv = {"--bind=x=y"}, NULL, {NULL}, {NULL}, "x=y"},
    {.argv = {"-b", "z"}, NULL, {NULL}, {NULL}, "z"},
    {.argv = {"--", "--name", "-q"}, NULL, {NULL}, {"--name", "-q"}},
    {.argv = {"ssh", "host", "-v"}, NULL, {NULL}, {"ssh", "host", "-v"}},
    {.argv = {"--server-port"}, "--server-port needs a value"},
    {.argv = {"--bind"}, "--bind needs a value"},
    {.argv = {"--config"}, "--config needs a value"},
    {.argv = {"--config=a", "--config", "b"}, "--config is given twice; keep one"},
    {.argv = {"--quiet=1"}, "--quiet takes no value"},
    {.argv = {"--no-name"}, "--no-name is no option; see --help"},
    {.argv = {"--no-single-port=1"}, "--no-single-port is no option; see --help"},
    {.argv = {"--server-por", "1"}, "--server-por is no option; see --help"},
    {.argv = {"--server-ports=1"}, "--server-ports is no option; see --help"},
    {.argv = {"-x"}, "-x is no option; see --help"},
    {.argv = {"--=x"}, "-- is no option; see --help"},
    {.argv = {"a", "b", "c", "d", "\x1b"}, "one argument too many: \\x1b"},
};

static void assert_args(size_t i)
{
    const char *argv[ARGV_MAX + 2] = {"test"};
    struct own own = {0};
    struct gt_config_parse parse = {&program, own_other, own_word, &own};
    struct gt_config_args args = {0};
    int argc = 1;
    for (; argc <= ARGV_MAX && args_cases[i].argv[argc - 1]; argc++)
        argv[argc] = args_cases[i].argv[argc - 1];

    int r = gt_config_parse_args(&parse, argc, (char **)(uintptr_t)argv, &args, error);
    if (args_cases[i].why) {
        assert_int_equal(r, GT_CONFIG_E_BAD);
        assert_string_equal(error, args_cases[i].why);
        return;
    }
    assert_int_equal(r, 0);
    for (size_t j = 0; j < 4 && args_cases[i].sets[j]; j++)
        assert_string_equal(args.sets[j], args_cases[i].sets[j]);
    for (size_t j = 0; j < 3 && args_cases[i].words[j]; j++)
        assert_string_equal(own.words[j], args_cases[i].words[j]);
    if (args_cases[i].bind)
        assert_string_equal(own.bind, args_cases[i].bind);
    free((void *)(uintptr_t)args.sets);
}

static void test_args(void **state)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(args_cases); i++)
        assert_args(i);

    const char *twice[] = {"server-port", "1", "server-port", "2"};
    struct gt_config_args args = {NULL, twice, 2};
    refused_with(&args, "--server-port: server.port is given twice");
    const char *empty[] = {"server-host", ""};
    args = (struct gt_config_args){NULL, empty, 1};
    refused_with(&args, "--server-host: server.host: empty");
}

static void test_help(void **state)
{
    char text[8192];
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    gt_config_help(&program, fds[1]);
    close(fds[1]);
    ssize_t n = read(fds[0], text, sizeof(text) - 1);
    assert_true(n > 0);
    text[n] = 0;
    close(fds[0]);
    for (size_t i = 0; i < GT_ARRAY_SIZE(items); i++) {
        assert_non_null(strstr(text, items[i].path));
        assert_non_null(strstr(text, items[i].env));
    }
    assert_non_null(strstr(text, "--server-port N"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_defaults),
        TEST(test_layers),
        TEST(test_show),
        TEST(test_values),
        TEST(test_variables),
        TEST(test_files),
        TEST(test_big_files),
        TEST(test_settings_limit),
        TEST(test_no_files),
        TEST(test_modes),
        TEST(test_secrets),
        TEST(test_read_file),
        TEST(test_taken_secrets_are_handed_on),
        TEST(test_args),
        TEST(test_help),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
