# Installs into the build folder, then builds programs against the installed tree with pkg-config,
# shared and static, and a plugin for the installed program.
set -euo pipefail
program=$1
source=$2
build=$(cd "$(dirname "$program")" && pwd)
prefix=$build/test_install/tree
work=$build/test_install/work
rm -rf "$build/test_install"
mkdir -p "$work"

cmake --install "$build" --prefix "$prefix" >"$work/log" || { cat "$work/log"; exit 1; }
export PKG_CONFIG_PATH
PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name dml.pc)")
libraries=$(dirname "$(find "$prefix" -name libdml.a)")
test -x "$prefix/bin/dml"
test -e "$libraries/libdml.so"
[ "$("$prefix/bin/dml" --version | sed -n 1p)" = "dml $(pkg-config --modversion dml)" ]

# What the library was built with must be linked with as well.
sanitize=$(sed -n 's/^DML_SANITIZE:STRING=//p' "$build/CMakeCache.txt")
flags=(-std=gnu17 -Wall -Wextra -Werror)
[ -z "$sanitize" ] || flags+=("-fsanitize=$sanitize")

cat >"$work/tiny.c" <<'END'
#include <dml/dml.h>
#include <stdio.h>

/* Distance mining and the margin criterion on eight embeddings. */
int main(void) {
    float embeddings[8 * 4], grad[8 * 4];
    int32_t labels[8];
    struct dml_rng rng = dml_rng_make(1, DML_PURPOSE_OTHER, 0, 0);
    for (int i = 0; i < 32; i++)
        embeddings[i] = (float)dml_rng_normal(&rng);
    for (int i = 0; i < 8; i++)
        labels[i] = i / 2;
    struct dml_batch batch = {.n = 8, .dim = 4, .embeddings = embeddings, .labels = labels};
    struct dml_miner_context mining_context = {.dim = 4, .margin = 0.2};
    struct dml_criterion_context context = {.dim = 4, .classes = 4, .miner = "distance"};
    struct dml_mining *mining = NULL;
    struct dml_objective *objective = NULL;
    struct dml_tuples tuples = {0};
    struct dml_loss loss = {0};
    int failed = dml_mining_open("distance", NULL, &mining_context, &mining) ||
                 dml_objective_open("margin", "--loss_margin_beta 0.6", &context, &objective) ||
                 dml_mining_compute(mining, &batch, &rng, &tuples, NULL) ||
                 dml_objective_compute(objective, &batch, &tuples, &rng, grad, &loss);
    if (failed)
        fprintf(stderr, "%s\n", dml_error());
    printf("%zu tuples, loss %s\n", tuples.count, loss.value > 0 ? "above 0" : "0");
    dml_tuples_free(&tuples);
    dml_objective_free(objective);
    dml_mining_free(mining);
    return failed;
}
END
# shellcheck disable=SC2046
cc "${flags[@]}" "$work/tiny.c" $(pkg-config --cflags --libs dml) -o "$work/shared"
readelf -d "$work/shared" >"$work/log"
grep -q libdml.so "$work/log"
[ "$(LD_LIBRARY_PATH=$libraries "$work/shared")" = "8 tuples, loss above 0" ]

# -l:libdml.a in place of -ldml: the folder holds both libraries.
static=$(pkg-config --cflags --libs --static dml | sed 's/-ldml\b/-l:libdml.a/')
# shellcheck disable=SC2086
cc "${flags[@]}" "$work/tiny.c" $static -lm -o "$work/static"
readelf -d "$work/static" >"$work/log"
if grep -q libdml "$work/log"; then
    echo "the static program needs libdml.so"
    exit 1
fi
[ "$("$work/static")" = "8 tuples, loss above 0" ]

# The example's Makefile finds the installed headers by itself.
cp "$source/examples/plugin/mine.c" "$source/examples/plugin/Makefile" "$work"
make -s -C "$work" mine.so
"$prefix/bin/dml" list --plugin "$work/mine.so" >"$work/log"
grep -q "Logistic triplet loss" "$work/log"
