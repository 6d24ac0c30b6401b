/* Text from elsewhere pushed through every way out of the program: names in a foreign database,
 * headers and file names in a foreign run folder, messages. Nothing of it may run, leave its cell,
 * or reach a terminal as an instruction. */
#include "base/files.h"
#include "base/memory.h"
#include "base/text.h"
#include "base/utf8.h"
#include "report/report.h"
#include "support/run_fixture.h"
#include "tracking/database.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* %s: a file that a command would make. */
static const char *const hostile[] = {
    "x'; system('touch %s'); y='",
    "x\"; system(\"touch %s\"); y=\"",
    "x';\nsystem('touch %s')\ny='",
    "`touch %s`",
    "$(touch %s)",
    "; touch %s ;",
    "| touch %s",
    "< touch %s",
    "\\'; system('touch %s') #",
    "@macro 'a'.system('touch %s').'",
    "%%s%%n%%d",
    "\x1b]0;title\x07\x1b[2Jx",
    "\xc2\x9b"
    "2Jx",
    "\xff\xfe not UTF-8",
    "\xe2\x80\xae turned \xe2\x81\xa6 \xe2\x80\xa9",
    "a\x1e"
    "dml: b",
    "a|b",
    "a&b_c#d$e~f^g",
    "\\input{/etc/hostname}",
    "\\end{tabular}\\write18{touch %s}",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "a\tb\nc\r\nd",
    "a,b\"c",
    "../../escaped",
    "#comment",
    "=HYPERLINK(\"http://x\")",
    "+1",
    "@SUM(1)",
    "-e system('touch %s')",
    "",
};
enum { HOSTILE = sizeof hostile / sizeof hostile[0] };

static char *text_of(size_t i) {
    char *canary = dml_path_join(save_path, "canary");
    char *at = strstr(hostile[i], "%s");
    char *text = at && at[-(at > hostile[i])] != '%'
                     ? dml_format("%.*s%s%s", (int)(at - hostile[i]), hostile[i], canary, at + 2)
                     : dml_strdup(hostile[i]);
    free(canary);
    return text;
}

static void assert_no_canary(size_t i) {
    char *canary = dml_path_join(save_path, "canary");
    if (dml_path_exists(canary))
        fail_msg("case %zu ran: %s", i, hostile[i]);
    free(canary);
}

/* Three groups with one run each, named by the hostile text, in a database of its own. */
static void write_foreign_database(const char *text) {
    struct fixture fixture;
    struct epoch_fixture epoch;
    sqlite3 *db;
    char *path = dml_path_join(save_path, "runs.sqlite");
    unlink(path);
    free(path);
    for (int number = 0; number < 3; number++) {
        void *database;
        struct dml_run *run = make_run(&fixture, number);
        char *group = dml_format("%s%d", text, number);
        run->group = group;
        assert_ok(dml_tracker_sqlite.open(run, &database));
        assert_ok(dml_tracker_sqlite.epoch(database, an_epoch(&epoch, 0)));
        assert_ok(dml_tracker_sqlite.close(database, DML_RUN_FINISHED, NULL));
        free(group);
    }
    assert_ok(dml_database_open(save_path, false, 1000, &db));
    assert_ok(dml_database_run(db, "UPDATE runs SET dataset = ?, project = ?", "ss", text, text));
    assert_ok(dml_database_run(db, "UPDATE metrics SET name = ? WHERE name = 'e_recall@2'", "s",
                               *text ? text : "e_recall@2"));
    sqlite3_close_v2(db);
}

static struct dml_report_options options_for_test(void) {
    return (struct dml_report_options){.save_path = save_path,
                                       .project = "",
                                       .dataset = "",
                                       .metric = "e_recall@1",
                                       .select = "Test",
                                       .min_epochs = 1};
}

static char *printed(const struct dml_report *report, enum dml_report_format format) {
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    assert_ok(dml_report_print(report, format, out));
    fclose(out);
    return text;
}

static void assert_plain_lines(const char *text) {
    for (const unsigned char *at = (const unsigned char *)text; *at; at++)
        if ((*at < 0x20 && *at != '\n') || *at == 0x7f || (*at == 0xc2 && at[1] < 0xa0))
            fail_msg("a control character: 0x%02x", *at);
}

/* Fields of each record of a CSV text are as many as the header's, and its names are no formulas.
 */
static void assert_well_formed_csv(const char *text) {
    size_t fields = 1, first = 0;
    bool quoted = false;
    for (const char *at = text; *at; at++) {
        if (*at == '"')
            quoted = !quoted;
        else if (*at == ',' && !quoted)
            fields++;
        else if (*at == '\n' && !quoted) {
            first = first ? first : fields;
            assert_int_equal(fields, first);
            fields = 1;
            assert_true(!at[1] || !strchr("=+-@", at[at[1] == '"' ? 2 : 1]));
        }
    }
    assert_false(quoted);
}

/* Every row of a Markdown table has as many cells as its first. */
static void assert_well_formed_markdown(const char *text) {
    size_t cells = 0, first = 0;
    for (const char *line = text; *line; line = strchr(line, '\n') + 1) {
        if (*line != '|') {
            first = 0;
            continue;
        }
        cells = 0;
        for (const char *at = line; *at != '\n'; at++) {
            if (*at == '\\')
                at++;
            else
                cells += *at == '|';
        }
        first = first ? first : cells;
        assert_int_equal(cells, first);
    }
}

/* Braces balance, and the only commands are ours. */
static void assert_harmless_latex(const char *text) {
    static const char *const ours[] = {"\\begin{tabular}",
                                       "\\end{tabular}",
                                       "\\hline",
                                       "\\pm",
                                       "\\\\",
                                       "\\_",
                                       "\\%",
                                       "\\&",
                                       "\\#",
                                       "\\$",
                                       "\\{",
                                       "\\}",
                                       "\\textbackslash{}",
                                       "\\textasciitilde{}",
                                       "\\textasciicircum{}",
                                       "\\textless{}",
                                       "\\textgreater{}",
                                       "\\textbar{}",
                                       "\\multicolumn{2}{c}",
                                       "\\beta"};
    int depth = 0;
    for (const char *at = text; *at;) {
        size_t length = 1;
        if (*at == '\\') {
            length = 0;
            for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
                if (strncmp(at, ours[i], strlen(ours[i])) == 0)
                    length = strlen(ours[i]);
            if (!length)
                fail_msg("LaTeX would see: %.40s", at);
        } else {
            depth += (*at == '{') - (*at == '}');
        }
        at += length;
    }
    assert_int_equal(depth, 0);
}

static void test_names_of_a_foreign_database(void **state) {
    (void)state;
    char *formats[] = {"svg"};
    struct dml_strings svg = {1, formats};
    for (size_t i = 0; i < HOSTILE; i++) {
        struct dml_report report;
        struct dml_report_options options = options_for_test();
        char *text = text_of(i), *folder = dml_format("%s/figures%zu", save_path, i);
        char *page = dml_format("%s/page.html", save_path);
        write_foreign_database(text);
        assert_ok(dml_report_read(&options, &report));
        char *terminal = printed(&report, DML_REPORT_TERMINAL),
             *csv = printed(&report, DML_REPORT_CSV);
        char *latex = printed(&report, DML_REPORT_LATEX),
             *markdown = printed(&report, DML_REPORT_MARKDOWN);
        assert_plain_lines(terminal);
        assert_plain_lines(csv);
        assert_plain_lines(latex);
        assert_plain_lines(markdown);
        assert_well_formed_csv(csv);
        assert_well_formed_markdown(markdown);
        assert_harmless_latex(latex);
        assert_ok(dml_report_draw(&report, folder, &svg, "e_recall@1"));
        options.project = text;
        assert_ok(dml_report_write_html(&report, &options, page));
        char *html = read_in(save_path, "page.html");
        assert_plain_lines(html);
        assert_null(strstr(html, "<script"));
        assert_null(strstr(html, "<img src=x"));
        assert_non_null(strstr(html, "class=\"figure\""));
        assert_no_canary(i);
        free(html);
        free(terminal);
        free(csv);
        free(latex);
        free(markdown);
        dml_report_free(&report);
        free(page);
        free(folder);
        free(text);
    }
}

/* A run folder from elsewhere, gone on with: its logs' headers and names are data. */
static void test_logs_of_a_foreign_run(void **state) {
    (void)state;
    struct fixture fixture;
    struct epoch_fixture epoch;
    struct dml_run *run = make_run(&fixture, 1);
    char *logs = dml_path_join(run->folder, "CSV_Logs");
    assert_ok(dml_make_folders(logs));
    for (size_t i = 0; i < HOSTILE; i++) {
        void *plots;
        char *text = text_of(i);
        char *table = dml_format("%s,loss%s\n1,2\n2,3\n", text, text);
        char *file = dml_format("%s/Data_Test_hostile.csv", logs);
        assert_ok(dml_write_file(file, table, strlen(table)));
        char *named = dml_format("%s/Data_Test_%s.csv", logs, text);
        if (!strchr(text, '/'))
            assert_ok(dml_write_file(named, table, strlen(table)));
        assert_ok(dml_tracker_plots.open(run, &plots));
        assert_ok(dml_tracker_plots.epoch(plots, an_epoch(&epoch, 0)));
        dml_tracker_plots.close(plots, DML_RUN_FINISHED, NULL);
        assert_no_canary(i);
        free(named);
        free(file);
        free(table);
        free(text);
    }
    free(logs);
}

static void test_messages(void **state) {
    (void)state;
    for (size_t i = 0; i < HOSTILE; i++) {
        dml_fail(DML_ERROR_INPUT, "%s: no such file", hostile[i]);
        for (const unsigned char *at = (const unsigned char *)dml_error(); *at; at++)
            assert_true(*at >= 0x20 && *at != 0x7f);
    }
    dml_fail(DML_ERROR_INPUT, "a\x1b[31m\xc2\x9b\xff\u00e4");
    assert_string_equal(dml_error(), "a\\x1b[31m\\xc2\\x9b\\xff\u00e4");
    char small[8];
    dml_text_printable("abcdef\x1b", "", small, sizeof small);
    assert_string_equal(small, "abcdef");
}

/* NULL where the schema wants text: a damaged database, or one made by another program. */
static void test_missing_text_in_a_database(void **state) {
    (void)state;
    struct dml_report report;
    struct dml_report_options options = options_for_test();
    sqlite3 *db;
    write_foreign_database("emoji");
    assert_ok(dml_database_open(save_path, false, 1000, &db));
    sqlite3_exec(db, "CREATE TABLE loose AS SELECT * FROM runs", NULL, NULL, NULL);
    sqlite3_exec(db, "DROP VIEW largest", NULL, NULL, NULL);
    sqlite3_exec(db, "DROP TABLE runs", NULL, NULL, NULL);
    sqlite3_exec(db, "ALTER TABLE loose RENAME TO runs", NULL, NULL, NULL);
    sqlite3_exec(db, "UPDATE runs SET folder = NULL, dataset = NULL, run_group = NULL", NULL, NULL,
                 NULL);
    sqlite3_exec(db, "CREATE TABLE loose AS SELECT * FROM metrics", NULL, NULL, NULL);
    sqlite3_exec(db, "DROP TABLE metrics", NULL, NULL, NULL);
    sqlite3_exec(db, "ALTER TABLE loose RENAME TO metrics", NULL, NULL, NULL);
    sqlite3_exec(db, "INSERT INTO metrics VALUES (1, NULL, NULL, 0, 0.5)", NULL, NULL, NULL);
    sqlite3_close_v2(db);
    assert_ok(dml_report_read(&options, &report));
    char *text = printed(&report, DML_REPORT_TERMINAL);
    assert_non_null(strstr(text, "R@1"));
    free(text);
    dml_report_free(&report);
}

/* Text and bytes where numbers belong are no values: SQLite would take them for 0, and rank text
 * above any number. A foreign database's triggers do nothing. */
static void test_numbers_of_a_database(void **state) {
    (void)state;
    static const char *const changes[] = {
        "UPDATE metrics SET value = 'much' WHERE epoch = 0",
        "UPDATE metrics SET value = x'31' WHERE epoch = 0",
        "INSERT INTO metrics SELECT run_id, part, name, 'late', 9 FROM metrics WHERE epoch = 0",
        "INSERT INTO metrics SELECT run_id, part, name, 9223372036854775807, 9 FROM metrics"
        " WHERE epoch = 0",
        "ALTER TABLE runs ADD COLUMN more TEXT", /* other people's columns and views do no harm */
        "CREATE VIEW own AS SELECT 1",
        "CREATE TRIGGER own AFTER UPDATE ON runs BEGIN DELETE FROM metrics; END;"
        "UPDATE runs SET status = status",
    };
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        struct dml_report report;
        struct dml_report_options options = options_for_test();
        sqlite3 *db;
        options.own_best = true;
        write_foreign_database("emoji");
        assert_ok(dml_database_open(save_path, false, 1000, &db));
        /* an epoch that is no number fits only a table without types */
        assert_ok(dml_database_run(db, "CREATE TABLE loose AS SELECT * FROM metrics", ""));
        assert_ok(dml_database_run(db, "DROP VIEW largest", ""));
        assert_ok(dml_database_run(db, "DROP TABLE metrics", ""));
        assert_ok(
            dml_database_run(db, "CREATE TABLE metrics (run_id, part, name, epoch, value)", ""));
        assert_ok(dml_database_run(
            db, "INSERT INTO metrics SELECT run_id, part, name, 1, 0.25 FROM loose", ""));
        assert_ok(dml_database_run(
            db, "INSERT INTO metrics SELECT run_id, part, name, 0, 0.75 FROM loose", ""));
        assert_int_equal(sqlite3_exec(db, changes[i], NULL, NULL, NULL), SQLITE_OK);
        sqlite3_close_v2(db);
        assert_ok(dml_report_read(&options, &report));
        int column = dml_report_find(&report, "Test", "e_recall@1");
        assert_true(column >= 0);
        const struct dml_report_run *run = &report.groups[0].runs[0];
        assert_true(run->values[column] == (i < 2 ? 0.25 : 0.75));
        assert_int_equal(run->epoch, i < 2 ? 2 : 1);
        dml_report_free(&report);
    }
}

/* A view that computes forever in the place of a table. */
static void test_a_view_instead_of_a_table(void **state) {
    (void)state;
    struct dml_report report;
    struct dml_report_options options = options_for_test();
    sqlite3 *db;
    write_foreign_database("emoji");
    assert_ok(dml_database_open(save_path, false, 1000, &db));
    assert_int_equal(
        sqlite3_exec(db,
                     "ALTER TABLE runs RENAME TO others; CREATE VIEW runs AS WITH RECURSIVE"
                     " c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"
                     " SELECT others.* FROM others, c",
                     NULL, NULL, NULL),
        SQLITE_OK);
    sqlite3_close_v2(db);
    assert_int_equal(dml_report_read(&options, &report), DML_ERROR_INPUT);
    assert_non_null(strstr(dml_error(), "has a view in the place of a table"));
}

static void test_file_names(void **state) {
    (void)state;
    char *plain = dml_text_file_name("cub200-2011_a.b"), *slash = dml_text_file_name("a/b"),
         *other = dml_text_file_name("a:b");
    assert_string_equal(plain, "cub200-2011_a.b");
    assert_null(strchr(slash, '/'));
    assert_string_not_equal(slash, other);
    free(plain);
    free(slash);
    free(other);
}

/* A command line that was kept is read back by a shell word for word, and runs nothing. */
static void test_command_lines(void **state) {
    (void)state;
    for (size_t i = 0; i < HOSTILE; i++) {
        char *text = text_of(i), *words[] = {"printf", "%s", text, ""};
        char *command = dml_text_shell(words, 4);
        assert_non_null(command);
        FILE *shell = popen(command, "r");
        assert_non_null(shell);
        char back[4096];
        size_t size = fread(back, 1, sizeof back - 1, shell);
        back[size] = 0;
        assert_int_equal(pclose(shell), 0);
        assert_string_equal(back, text);
        assert_no_canary(i);
        free(command);
        free(text);
    }
}

static void test_lines_of_a_terminal(void **state) {
    (void)state;
    for (size_t i = 0; i < HOSTILE; i++) {
        char *text = text_of(i), *line = NULL;
        size_t size;
        FILE *out = open_memstream(&line, &size);
        dml_text_put_line(out, text);
        fclose(out);
        assert_plain_lines(line);
        assert_null(strchr(line, '\n'));
        free(line);
        free(text);
    }
}

/* Escaped text is UTF-8 in one line, and gives its bytes back; all pairs of bytes, and what looks
 * like an escape. */
static void test_escapes(void **state) {
    (void)state;
    static const char *const texts[] = {"",         "plain",    "caf\xc3\xa9", "\\xff",
                                        "\\x5cxff", "\\xFF",    "\\x5",        "\\",
                                        "\\x\xff",  "\\x5\xff", "a\nb\rc",     "\xed\xa0\x80"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts + 65536; i++) {
        char pair[] = {(char)(i >> 8), (char)i, 'x', '4', '1', 0};
        const char *text = i < 65536 ? pair : texts[i - 65536];
        char *escaped = dml_text_escape(text);
        assert_non_null(escaped);
        assert_true(dml_utf8_valid(escaped, strlen(escaped)));
        assert_null(strpbrk(escaped, "\n\r"));
        dml_text_unescape(escaped);
        assert_string_equal(escaped, text);
        free(escaped);
    }
    char *same = dml_text_escape("caf\xc3\xa9 \\X \\n");
    assert_string_equal(same, "caf\xc3\xa9 \\X \\n");
    free(same);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_names_of_a_foreign_database),
        TEST(test_logs_of_a_foreign_run),
        TEST(test_messages),
        TEST(test_escapes),
        TEST(test_missing_text_in_a_database),
        TEST(test_numbers_of_a_database),
        TEST(test_a_view_instead_of_a_table),
        TEST(test_file_names),
        TEST(test_command_lines),
        TEST(test_lines_of_a_terminal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
