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

# What the libraries export is what the headers declare, all of it and no more.
declared() {
    echo "#include <$1>" | cc -E -P -I"$prefix/include" - | tr '\n' ' ' | sed 's/[;{]/\n/g' |
        grep -oE 'visibility\("default"\)\)\) [^(=]*' | grep -oE 'dml_[a-z0-9_]+[^a-z0-9_]*$' |
        grep -oE '^[a-z0-9_]+' | sort -u
}
exported() {
    nm -D --defined-only --format=posix "$1" | cut -d' ' -f1 | sort -u
}
for pair in dml/dml.h:libdml.so dml/core.h:libdml-core.so; do
    declared "${pair%:*}" >"$work/declared"
    exported "$libraries/${pair#*:}" >"$work/exported"
    test -s "$work/declared"
    if ! diff "$work/declared" "$work/exported"; then
        echo "${pair#*:} does not export what ${pair%:*} declares"
        exit 1
    fi
done
if grep -nE '^[a-z].*\bdml_[a-z0-9_]+\(' "$prefix"/include/dml/*.h; then
    echo "a public function is not marked with DML_API"
    exit 1
fi

# libdml-core brings linear algebra and the compiler's own libraries, and nothing that reads files.
sed 's,dml/dml.h,dml/core.h,' "$work/tiny.c" >"$work/core.c"
# shellcheck disable=SC2046
cc "${flags[@]}" "$work/core.c" $(pkg-config --cflags --libs dml-core) -o "$work/core"
[ "$(LD_LIBRARY_PATH=$libraries "$work/core")" = "8 tuples, loss above 0" ]
LD_LIBRARY_PATH=$libraries ldd "$work/core" >"$work/log"
grep -q libdml-core "$work/log"
if grep -E 'sqlite|dnnl|jpeg|png|cjson|libzip|libz\.|libdml\.' "$work/log"; then
    echo "libdml-core brings these"
    exit 1
fi
static=$(pkg-config --cflags --libs --static dml-core | sed 's/-ldml-core\b/-l:libdml-core.a/')
# shellcheck disable=SC2086
cc "${flags[@]}" "$work/core.c" $static -lm -o "$work/core_static"
[ "$("$work/core_static")" = "8 tuples, loss above 0" ]

# The examples, as their first lines say: with the package that they name.
for example in "$source"/examples/*.c; do
    name=$(basename "$example" .c)
    package=$(sed -n 's/.*--libs \(dml[-a-z]*\)).*/\1/p' "$example")
    # shellcheck disable=SC2046
    cc "${flags[@]}" "$example" $(pkg-config --cflags --libs "$package") -o "$work/$name"
    LD_LIBRARY_PATH=$libraries "$work/$name" "$source/data" "$work/results" >"$work/log" 2>&1 ||
        { cat "$work/log"; exit 1; }
done
grep -q "^[0-9]* embeddings of 128 dimensions$" "$work/log"

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
cp "$source"/examples/plugin/{mine.c,tiny.c,Makefile} "$work"
make -s -C "$work"
"$prefix/bin/dml" list --plugin "$work/mine.so" "$work/tiny.so" >"$work/log"
grep -q "Logistic triplet loss" "$work/log"
grep -q "Three stages of one residual block" "$work/log"
