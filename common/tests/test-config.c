/* SPDX-License-Identifier: ISC */
/*
 * The layers and their order, valid and invalid texts in files, variables and flags, and files that
 * cannot be read. The test has a table of its own instead of a program's.
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

#include "gotthard/config/config-taken.h"

struct settings {
    char *host, *name, *text, *path, *key, *level;
    uint64_t port, from, to, window, buffer, reserve;
    bool is_single;
    struct gt_config_map services;
};

#define ITEM(...) GT_CONFIG_ITEM(struct settings, __VA_ARGS__)
static const struct gt_config_item items[] = {
    ITEM("server.host", HOST, host, .env = "T_HOST", .flag = "server-host", .help = "The host."),
    ITEM("server.port", NUMBER, port, .env = "T_PORT", .flag = "server-port", .fallback = "7000",
         .min = 1, .max = 65535, .commands = 1),
    ITEM("server.ports_from", NUMBER, from, .env = "T_FROM", .fallback = "7001", .min = 1,
         .max = 65535),
    ITEM("server.ports_to", NUMBER, to, .env = "T_TO", .fallback = "7999", .min = 1, .max = 65535),
    ITEM("server.single_port", BOOL, is_single, .env = "T_SINGLE", .flag = "single-port",
         .fallback = "false"),
    ITEM("crypt.key", SECRET, key, .env = "T_KEY"),
    ITEM("device.name", NAME, name, .env = "T_NAME", .flag = "name"),
    ITEM("mqtt.username", STRING, text, .env = "T_TEXT"),
    ITEM("mqtt.cert_path", PATH, path, .env = "T_PATH", .fallback = "/etc/certs"),
    ITEM("trust.policy", CHOICE, level, .env = "T_POLICY", .fallback = "auto",
         .choices = "auto psk pin"),
    ITEM("resume_window", DURATION, window, .env = "T_WINDOW", .flag = "window", .fallback = "120s",
         .min = 1000, .max = 3600000),
    ITEM("stream.buffer", SIZE, buffer, .env = "T_BUFFER", .fallback = "1MiB", .min = 65536,
         .max = 1 << 26),
    ITEM("stream.reserve", SIZE, reserve, .env = "T_RESERVE", .fallback_help = "a tenth of all",
         .min = 65536, .max = 1 << 26),
    ITEM("services", MAP, services, .env = "T_SERVICES", .fallback = "ssh=127.0.0.1:22"),
};

static const char *check(const void *opaque, char *ret_why, size_t cap)
{
    const struct settings *settings = opaque;

    if (settings->from <= settings->to)
        return NULL;
    snprintf(ret_why, cap, "it is above server.ports_to");
    return "server.ports_from";
}

static const struct gt_config_removed removed[] = {{"server.legacy", "because port replaces it"}};

static const struct gt_config_program program = {
    .name = "test",
    .items = items,
    .n_items = GT_ARRAY_SIZE(items),
    .settings_size = sizeof(struct settings),
    .has_home_file = true,
    .check = check,
    .removed = removed,
    .n_removed = GT_ARRAY_SIZE(removed),
};

/* A separate folder for each test, as $GOTTHARD_CONFIG_DIR and as $HOME. */
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

/* Asserts that loading fails with @r and a message that contains @part. */
static void assert_fails(const struct gt_config_args *args, int wanted, const char *part)
{
    struct gt_config *config = NULL;

    error[0] = 0;
    int r = gt_config_load(&program, args, &config, error);
    if (r != wanted || !strstr(error, part))
        print_error("wanted %d \"%s\", got %d \"%s\"\n", wanted, part, r, error);
    assert_int_equal(r, wanted);
    assert_non_null(strstr(error, part));
    assert_null(config);
}

static void assert_rejected(const char *part)
{
    assert_fails(NULL, GT_CONFIG_E_BAD, part);
}

static void assert_rejected_with(const struct gt_config_args *args, const char *part)
{
    assert_fails(args, GT_CONFIG_E_BAD, part);
}

/* A file cannot be used now, and may be usable later. */
static void assert_unusable(const char *part)
{
    assert_fails(NULL, GT_CONFIG_E_FILE, part);
}

static void test_load_without_layers_gives_defaults(void **state)
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

static void test_layers_override_in_order(void **state)
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

    /* --config FILE replaces all files, but not the variables. */
    put("other", "device = { name = \"x\"; }");
    struct gt_config_args args = {in_folder("other"), NULL, 0};
    assert_int_equal(gt_config_load(&program, &args, &config, error), 0);
    assert_int_equal(settings_of(config)->port, 7001);
    gt_config_free(config);

    setenv("T_PORT", "0", 1);
    assert_rejected("T_PORT: server.port: \"0\" is out of range");
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

static void test_show_prints_origins_and_overridden_values(void **state)
{
    const char *flags[] = {"server-port", "7002"};

    put("test.conf", "server = { port = 7001; }; crypt = { key = \"hush\"; };");
    setenv("T_KEY", "hush hush", 1);
    setenv("T_TEXT", "J\xc3\xbcrg", 1);
    struct gt_config *config = load_with(flags, 1);
    const char *text = shown(config);
    char line[512];
    snprintf(line, sizeof(line),
             "    port = 7002;   # --server-port\n    #   overrides 7001   # %s:1\n",
             in_folder("test.conf"));
    assert_non_null(strstr(text, line));
    snprintf(line, sizeof(line),
             "    # key is set   # %s:1\n    #   overrides another one   # T_KEY\n",
             in_folder("test.conf"));
    assert_non_null(strstr(text, line));
    assert_null(strstr(text, "hush"));
    assert_non_null(strstr(text, "    username = \"J\xc3\xbcrg\";   # T_TEXT\n"));
    assert_non_null(strstr(text, "#resume_window = \"120s\";   # default\n"));
    assert_non_null(strstr(text, "    #host = \"\";   # default\n"));
    gt_config_free(config);
}

/* The text of a value in a file and in a variable. @why: part of the message; NULL: valid. */
struct value_case {
    const char *path, *env, *file, *variable, *why;
};

static const struct value_case value_cases[] = {
    {"port", "T_PORT", "1", "1", NULL},
    {"port", "T_PORT", "65535", "65535", NULL},
    {"port", "T_PORT", "0", "0", "\"0\" is out of range, expected a whole number from 1 to 65535"},
    {"port", "T_PORT", "65536", "65536", "\"65536\" is out of range"},
    {"port", "T_PORT", "2147483647", "2147483647", "out of range"},
    {"port", "T_PORT", "2147483648", NULL, ":1: number too large"},
    {"port", "T_PORT", "4294967318", NULL, "number too large"},
    {"port", "T_PORT", NULL, "4294967318", "out of range"},
    {"port", "T_PORT", NULL, "18446744073709551638", "server.port"},
    {"port", "T_PORT", "99999999999999", NULL, "number too large"},
    {"port", "T_PORT", NULL, "99999999999999", "out of range"},
    {"port", "T_PORT", "-22", NULL, "must be decimal digits"},
    {"port", "T_PORT", "+22", NULL, "must be decimal digits"},
    {"port", "T_PORT", "0x16", NULL, "must be decimal digits"},
    {"port", "T_PORT", "0X16", NULL, "must be decimal digits"},
    {"port", "T_PORT", "022", NULL, "must not begin with 0"},
    {"port", "T_PORT", "0b11", NULL, "must be decimal digits"},
    {"port", "T_PORT", "22L", NULL, "must be decimal digits"},
    {"port", "T_PORT", "22LL", NULL, "must be decimal digits"},
    {"port", "T_PORT", "22.0", NULL, "must be decimal digits"},
    {"port", "T_PORT", ".5", NULL, "must be decimal digits"},
    {"port", "T_PORT", "1e3", NULL, "must be decimal digits"},
    {"port", "T_PORT", "\"22\"", NULL,
     "wrong type, expected a whole number from 1 to 65535, without"},
    {"port", "T_PORT", "true", NULL, "wrong type"},
    {"port", "T_PORT", "[1]", NULL, "lists are not supported"},
    {"port", "T_PORT", "(1)", NULL, "lists are not supported"},
    {"port", "T_PORT", "{ a = 1; }", NULL, "wrong type"},
    {"port", "T_PORT", "", NULL, "syntax error"},
    {"port", "T_PORT", NULL, "", NULL},
    {"port", "T_PORT", NULL, " ", "is invalid"},
    {"port", "T_PORT", NULL, "+22", "is invalid"},
    {"port", "T_PORT", NULL, " 22", "is invalid"},
    {"port", "T_PORT", NULL, "22 ", "is invalid"},
    {"port", "T_PORT", NULL, "22\n", "is not printable"},
    {"port", "T_PORT", NULL, "0x16", "is invalid"},
    {"port", "T_PORT", NULL, "022", "is invalid"},
    {"port", "T_PORT", NULL, "22.0", "is invalid"},
    {"port", "T_PORT", NULL, "1e3", "is invalid"},
    {"single_port", "T_SINGLE", "true", "yes", NULL},
    {"single_port", "T_SINGLE", "FALSE", "off", NULL},
    {"single_port", "T_SINGLE", "1", "2", "server.single_port"},
    {"single_port", "T_SINGLE", "\"true\"", " ", "server.single_port"},
    {"single_port", "T_SINGLE", NULL, "", NULL},
    {"single_port", "T_SINGLE", "yes", NULL, "syntax error"},
    {"host", "T_HOST", "\"relay.example.org\"", "relay.example.org", NULL},
    {"host", "T_HOST", "\"::1\"", "192.0.2.1", NULL},
    {"host", "T_HOST", "\"\"", "", NULL},
    {"host", "T_HOST", "\"https://relay\"", "https://relay", "without scheme and port"},
    {"host", "T_HOST", "\"relay:7000\"", "relay:7000", "server.host"},
    {"host", "T_HOST", "\"a b\"", "a b", "server.host"},
    {"host", "T_HOST", "22", " ", "server.host"},
    {"host", "T_HOST", "\"open", NULL, "unclosed text"},
    {"host", "T_HOST", "\"a\nb\"", NULL, "unclosed text"},
    {"host", "T_HOST", "\"a\\x00b\"", NULL, "a backslash"},
    {"host", "T_HOST", "\"a\\nb\"", NULL, "a backslash"},
    {"host", "T_HOST",
     "\"a\xff"
     "b\"",
     "a\xff"
     "b",
     "is not printable UTF-8"},
};

static void test_values_are_checked_in_files_and_variables(void **state)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(value_cases); i++) {
        const struct value_case *c = &value_cases[i];
        char text[256];

        if (c->file) {
            snprintf(text, sizeof(text), "server = { %s = %s; };", c->path, c->file);
            put("test.conf", text);
            if (c->why)
                assert_rejected(c->why);
            else
                gt_config_free(load());
            unlink(in_folder("test.conf"));
        }
        if (c->variable) {
            setenv(c->env, c->variable, 1);
            if (c->why)
                assert_rejected(c->why);
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
    {"T_NAME", "a/b", "device.name: \"a/b\" is invalid, expected a name"},
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
    {"T_TEXT", "\x1b[31m", "\"\x1b[31m\" is not printable"},
    {"T_TEXT", "a\nb", "is not printable"},
    {"T_TEXT", "a\x7f", "is not printable"},
    {"T_POLICY", "pin", NULL},
    {"T_POLICY", "", NULL}, /* as not given */
    {"T_POLICY", "PIN", "one of: auto psk pin"},
    {"T_POLICY", "psk pin", "one of"},
    {"T_POLICY", "pi", "one of"},
    {"T_WINDOW", "1s", NULL},
    {"T_WINDOW", "1000ms", NULL},
    {"T_WINDOW", "999ms", "from 1s to 1h"},
    {"T_WINDOW", "1h", NULL},
    {"T_WINDOW", "61min", "is out of range"},
    {"T_WINDOW", "120", "expected a duration such as \"30s\""},
    {"T_WINDOW", "", NULL},
    {"T_BUFFER", "", NULL},
    {"T_SINGLE", "", NULL},
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

static void test_variables_are_checked_by_type(void **state)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(variable_cases); i++) {
        setenv(variable_cases[i].env, variable_cases[i].text, 1);
        if (variable_cases[i].why)
            assert_rejected(variable_cases[i].why);
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
        assert_rejected("is longer than 4096 bytes");
        if (items[i].type == GT_CONFIG_SECRET) {
            setenv(items[i].env, "", 1);
            gt_config_free(load());
        }
        unsetenv(items[i].env);
    }
}

static void test_host_loses_the_dot_of_a_rooted_name(void **state)
{
    put("test.conf", "server = { host = \"relay.example.org.\"; };");
    struct gt_config *config = load();

    assert_string_equal(settings_of(config)->host, "relay.example.org");
    gt_config_free(config);
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
     "test.conf:2: unknown setting server.prot; did you mean server.port?"},
    {"server = { legacy = 22; port = 23; };", NULL},
    {"server = { legacy = { port = 22; }; };", NULL},
    {"legacy = 22;", "unknown setting legacy"},
    {"server = { legac = 22; };", "unknown setting server.legac"},
    {"zzz = 1;", "unknown setting zzz; see 'gotthard-test --help'"},
    {"server = 1;", "server is a group"},
    {"server = \"x\";", "server is a group"},
    {"server = { host = { a = 1; }; };", "server.host: wrong type"},
    {"server = {\n port = 1;\n port = 2; };",
     "test.conf:3: server.port is given twice (first at line 2)"},
    {"services = { port = \"a:1\"; };\nserver = { port = 1; };", NULL},
    {"server = { port = 1; };\n\n server : { host = \"a\"; };",
     "test.conf:3: server is given twice (first at line 1)"},
    {"server = { port = 1; };\nserver = { port = 2; };", "test.conf:2: server is given twice"},
    {"trust = { policy = pin; };", "a text must be in quotes"},
    {"services = { a = 1; };", "services.a: expected a text in quotes"},
    {"services = { a = \"\"; };", "services.a"},
    {"services = { a = \"b,c\"; };", "services.a"},
    {"services = \"ssh=a:1\";", "services: wrong type"},
    {"services = { a = { b = \"c\"; }; };", "services.a"},
    {"resume_window = 120;", "expected a duration such as \"30s\" from 1s to 1h, in quotes"},
    {"resume_window = \"2h\";", ":1: resume_window: \"2h\" is out of range"},
    {"server = { port = 22; ", "unclosed {"},
    {"server = { port = 22; }};", "unexpected }"},
    {"/* a\n b", "test.conf:1: unclosed comment"},
    {"server = { };\n/*", ":2: unclosed comment"},
    {"@include \"x\"", ":1: @include is not supported"},
    {"\n  @include \"/etc\"", ":2: @include is not supported"},
    {"a = @include;", "@include is not supported"},
    {"\xef\xbb\xbfserver = { };", "byte order mark"},
    {"\xff\xfes\0", "unexpected character"},
    {"server = { port = 22 } \xe9", "unexpected character"},
    {"server = { port == 22; }", "syntax error"},
    {"server.port = 22;", "must be decimal digits"},
    {"[server]\nport = 22", "lists are not supported"},
    {"{ \"server\": 22 }", "unexpected text"},
    {"port 22", "syntax error"},
    {"a = {b={c={d={};};};};", "unknown setting a"},
    {"a = {b={c={d={e={};};};};};", "nested too deeply"},
};

static void test_file_syntax_is_checked(void **state)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(file_cases); i++) {
        put("test.conf", file_cases[i].text);
        if (file_cases[i].why)
            assert_rejected(file_cases[i].why);
        else
            gt_config_free(load());
    }
    put_bytes("test.conf", "server\0 = 1;", 12, 0640);
    assert_rejected("contains a NUL byte");
}

/* Writes a file of @n bytes that repeats @unit. */
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

static void test_big_files_are_rejected_quickly(void **state)
{
    double start = seconds();

    put_repeated("# comment\n", 65536);
    gt_config_free(load());
    put_repeated("# comment\n", 65537);
    assert_rejected("test.conf: file too large");
    put_repeated("a{", 400000);
    assert_rejected("file too large");
    put_repeated("a={", 60000);
    assert_rejected("nested too deeply");
    put_repeated("abc=1;\n", 700000);
    assert_rejected("file too large");
    put_repeated("abc=1;\n", 65000);
    assert_rejected("abc is given twice (first at line 1)");
    put_repeated("a", 65536);
    assert_rejected("syntax error");
    put_repeated("1", 65536);
    assert_rejected("number too large, at most 2147483647");
    put_repeated("\"a\" ", 65536);
    assert_rejected("unexpected text");
    put_repeated("x={};", 5000);
    assert_rejected("x is given twice");
    assert_true(seconds() - start < 5);
}

static void test_file_rejects_more_than_1000_settings(void **state)
{
    char text[32768];

    for (int n = 999; n <= 1001; n++) {
        size_t at = (size_t)sprintf(text, "services={");

        for (int i = 1; i < n; i++)
            at += (size_t)sprintf(text + at, "s%d=\"h:1\";", i);
        sprintf(text + at, "};");
        put("test.conf", text);
        assert_rejected(n <= 1000 ? "services"
                                  : "too many settings"); /* a map ends at 4096 bytes */
    }
}

static void test_only_regular_files_are_read(void **state)
{
    const char *path;

    make_folder("folder");
    put("plain", "");
    assert_int_equal(symlink("/nonexistent/nowhere", in_folder("test.conf")), 0);
    assert_unusable("No such file");
    assert_int_equal(unlink(in_folder("test.conf")), 0);
    assert_int_equal(mkfifo(in_folder("test.conf"), 0600), 0);
    assert_unusable("not a regular file");
    unlink(in_folder("test.conf"));
    assert_int_equal(symlink("/dev/zero", in_folder("test.conf")), 0);
    assert_unusable("not a regular file");
    unlink(in_folder("test.conf"));
    assert_int_equal(symlink("test.conf", in_folder("test.conf")), 0);
    assert_unusable("symbolic links");
    unlink(in_folder("test.conf"));
    make_folder("test.conf");
    assert_unusable("not a regular file");
    rmdir(in_folder("test.conf"));

    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    path = in_folder("test.conf");
    snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", path);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_unusable("No such device");
    close(fd);
    unlink(path);

    put("test.conf.d", "a file where a folder should be");
    assert_unusable("Not a directory");
    unlink(in_folder("test.conf.d"));
    make_folder("test.conf.d");
    assert_int_equal(symlink("nowhere", in_folder("test.conf.d/a.conf")), 0);
    assert_unusable("test.conf.d/a.conf: No such file");
    unlink(in_folder("test.conf.d/a.conf"));

    struct gt_config_args args = {"/nonexistent/x.conf", NULL, 0};
    assert_fails(&args, GT_CONFIG_E_FILE, "/nonexistent/x.conf: No such file");
}

static void test_file_modes_are_checked(void **state)
{
    put_bytes("test.conf", "", 0, 0642);
    assert_unusable("must not be writable by others (chmod o-w)");
    put_bytes("test.conf", "", 0, 0644);
    gt_config_free(load());
    const char *key = "crypt = { key = \"hush\"; };";
    put_bytes("test.conf", key, strlen(key), 0644);
    assert_rejected(
        "crypt.key: the file must not be readable by others (chmod o-rwx), or use crypt.key_file");
    put_bytes("test.conf", key, strlen(key), 0640);
    gt_config_free(load());
    if (geteuid() != 0) {
        put_bytes("test.conf", "", 0, 0200);
        assert_unusable("Permission denied");
    }
    unlink(in_folder("test.conf"));

    setenv("T_KEY_FILE", in_folder("key"), 1);
    put_bytes("key", "hush\n", 5, 0604);
    assert_unusable("T_KEY_FILE: crypt.key:");
    put_bytes("key", "hush\n", 5, 0602);
    assert_unusable("must not be accessible by others (chmod o-rwx)");
    put_bytes("key", "\n", 1, 0600);
    assert_unusable("empty file");
    put_bytes("key", "hush", 4, 0600);
    gt_config_free(load());
    unlink(in_folder("key"));
    assert_unusable("No such file");
    make_folder("key");
    assert_unusable("not a regular file");
}

/* A folder that a variable names, and the one of a file that --config names. */
static void test_named_folder_must_exist_and_be_ours(void **state)
{
    struct gt_config_args args = {in_folder("test.conf"), NULL, 0};
    char *before = strdup(getenv("GOTTHARD_CONFIG_DIR"));

    put("test.conf", "");
    setenv("GOTTHARD_CONFIG_DIR", "/nonexistent", 1);
    assert_fails(&args, GT_CONFIG_E_FILE, "/nonexistent: No such file");
    assert_unusable("/nonexistent: No such file");
    setenv("GOTTHARD_CONFIG_DIR", before, 1);
    assert_int_equal(chmod(before, 0775), 0);
    assert_unusable("a folder of this path has mode 0775");
    assert_fails(&args, GT_CONFIG_E_FILE, "mode 0775");
    assert_int_equal(chmod(before, 0700), 0);
    make_folder("test.conf.d");
    assert_int_equal(chmod(in_folder("test.conf.d"), 0777), 0);
    assert_unusable("mode 0777"); /* a file may have been removed from it */
    assert_int_equal(chmod(in_folder("test.conf.d"), 0755), 0);
    gt_config_free(load());
    setenv("HOME", before, 1);
    args.file = "~/none.conf";
    assert_fails(&args, GT_CONFIG_E_FILE, "/none.conf: No such file");
    args.file = "~bob/x";
    assert_fails(&args, GT_CONFIG_E_BAD, "--config: ~bob/x: only ~/ is known");
    free(before);
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

/* A program that executes itself passes them to the next image. */
static void test_taken_secrets_can_be_restored(void **state)
{
    char text[64] = "";

    setenv("T_KEY", "swordfish", 1);
    assert_key("swordfish", "T_KEY");
    gt_config_each_taken(on_taken, text);
    assert_string_equal(text, "swordfish");
    gt_configtaken_forget();
    struct gt_config *config = load();
    assert_null(settings_of(config)->key);
    gt_config_free(config);
    assert_int_equal(gt_config_keep_taken("T_KEY", text), 0);
    assert_key("swordfish", "T_KEY");
}

static void test_secrets_are_taken_from_each_source(void **state)
{
    static char variable[] = "T_KEY=swordfish";

    assert_int_equal(putenv(variable), 0);
    assert_key("swordfish", "T_KEY");
    assert_null(getenv("T_KEY"));
    for (size_t i = 6; i < sizeof(variable); i++)
        assert_int_equal(variable[i], 0);
    assert_key("swordfish", "T_KEY"); /* a reload has the copy */

    setenv("T_KEY", "with\nbreak", 1);
    assert_rejected("T_KEY: crypt.key is not printable");
    assert_null(strstr(error, "break"));
    assert_null(getenv("T_KEY"));
    setenv("T_KEY", "new", 1);
    setenv("T_PORT", "x",
           1); /* an error in another setting does not keep the secret in the environment */
    assert_rejected("T_PORT");
    assert_null(getenv("T_KEY"));
    unsetenv("T_PORT");
    assert_key("new", "T_KEY");

    put_bytes("key", "of a file\r\n", 11, 0600);
    setenv("T_KEY_FILE", in_folder("key"), 1);
    assert_rejected("T_KEY_FILE: crypt.key is given twice (first at T_KEY)");
    setenv("T_KEY", "", 1);
    assert_key("of a file", "T_KEY_FILE");
    static const char *const of_lines[] = {"T_KEY=lines\n", "T_IV=salt\r\nT_KEY=lines\r\n",
                                           "\nNOT_T_KEY=a\nT_KEYS=b\nT_KEY=lines\n#T_KEY=c"};
    for (size_t i = 0; i < GT_ARRAY_SIZE(of_lines); i++) {
        put_bytes("key", of_lines[i], strlen(of_lines[i]), 0600);
        assert_key("lines", "T_KEY_FILE");
    }
    put_bytes("key", "T_KEY=\nT_IV=salt\n", 17, 0600);
    assert_unusable("empty file");
    put_bytes("key", "T_IV=salt\nT_OTHER=x\n", 20, 0600);
    assert_unusable("several lines");
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
    assert_rejected("crypt.key is given twice");
    put("test.conf", "crypt = { key = 22; };");
    assert_rejected("crypt.key: wrong type");
    put("test.conf", "crypt = { kee = \"x\"; };");
    assert_rejected("did you mean crypt.key");
}

static void test_read_file_checks_size_mode_and_nul(void **state)
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
    assert_string_equal(why, "file too large");
    assert_int_equal(gt_config_read_file(in_folder("a"), 5, true, &text, &n, &why),
                     GT_CONFIG_E_FILE);
    assert_int_equal(chmod(in_folder("a"), 0646), 0);
    assert_int_equal(gt_config_read_file(in_folder("a"), 5, false, &text, &n, &why),
                     GT_CONFIG_E_FILE);
    assert_string_equal(why, "mode 0646, must not be writable by others (chmod o-w)");
    put_bytes("a", "1\0", 2, 0600);
    assert_int_equal(gt_config_read_file(in_folder("a"), 5, true, &text, &n, &why), 1);
    assert_null(text);
}

/* The options and words of the test's own program. */
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
    const char *why; /* NULL: valid, and: */
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
    {.argv = {"--server-port"}, "option '--server-port' requires an argument"},
    {.argv = {"--bind"}, "option '--bind' requires an argument"},
    {.argv = {"--config"}, "option '--config' requires an argument"},
    {.argv = {"--config=a", "--config", "b"}, "option '--config' given twice"},
    {.argv = {"--quiet=1"}, "option '--quiet' doesn't allow an argument"},
    {.argv = {"--no-name"}, "unrecognized option '--no-name'"},
    {.argv = {"--no-single-port=1"}, "unrecognized option '--no-single-port'"},
    {.argv = {"--server-por", "1"}, "unrecognized option '--server-por'"},
    {.argv = {"--server-ports=1"}, "unrecognized option '--server-ports'"},
    {.argv = {"-x"}, "unrecognized option '-x'"},
    {.argv = {"--=x"}, "unrecognized option '--'"},
    {.argv = {"a", "b", "c", "d", "\x1b"}, "unexpected argument '\x1b'"},
};

static void assert_args(size_t i)
{
    const char *argv[ARGV_MAX + 2] = {"test"};
    struct own own = {0};
    struct gt_config_parse parse = {
        .program = &program, .other = own_other, .word = own_word, .userdata = &own};
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

static void test_args_become_settings_options_and_words(void **state)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(args_cases); i++)
        assert_args(i);

    const char *twice[] = {"server-port", "1", "server-port", "2"};
    struct gt_config_args args = {NULL, twice, 2};
    assert_rejected_with(&args, "--server-port: server.port is given twice");
    const char *empty[] = {"server-host", ""};
    args = (struct gt_config_args){NULL, empty, 1};
    assert_rejected_with(&args, "--server-host: server.host: empty value");
}

/* As in the annotated file, which has "" for a default that it does not know. */
static void test_empty_text_keeps_default_of_the_machine(void **state)
{
    put("test.conf", "stream = { reserve = \"\"; };");
    struct gt_config *config = load();
    assert_int_equal(settings_of(config)->reserve, 0);
    assert_false(gt_config_is_set(config, "stream.reserve"));
    gt_config_free(config);

    put("test.conf", "stream = { reserve = \"2MiB\"; };");
    config = load();
    assert_int_equal(settings_of(config)->reserve, 2 << 20);
    gt_config_free(config);

    put("test.conf", "stream = { buffer = \"\"; };");
    assert_rejected("stream.buffer");
}

static void test_help_contains_every_setting(void **state)
{
    char text[8192];
    int fds[2];

    assert_int_equal(pipe(fds), 0);
    gt_config_help(&program, 0, fds[1]);
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
        TEST(test_load_without_layers_gives_defaults),
        TEST(test_layers_override_in_order),
        TEST(test_show_prints_origins_and_overridden_values),
        TEST(test_values_are_checked_in_files_and_variables),
        TEST(test_variables_are_checked_by_type),
        TEST(test_host_loses_the_dot_of_a_rooted_name),
        TEST(test_file_syntax_is_checked),
        TEST(test_big_files_are_rejected_quickly),
        TEST(test_file_rejects_more_than_1000_settings),
        TEST(test_only_regular_files_are_read),
        TEST(test_file_modes_are_checked),
        TEST(test_named_folder_must_exist_and_be_ours),
        TEST(test_secrets_are_taken_from_each_source),
        TEST(test_read_file_checks_size_mode_and_nul),
        TEST(test_taken_secrets_can_be_restored),
        TEST(test_args_become_settings_options_and_words),
        TEST(test_empty_text_keeps_default_of_the_machine),
        TEST(test_help_contains_every_setting),
    };

    umask(022); /* a file that a group may write is refused */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
