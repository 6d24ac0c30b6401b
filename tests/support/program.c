#include "base/messages.h"

/* Tests read messages as the program shows them, with parameters named as flags. */
__attribute__((constructor)) static void name_flags(void) {
    dml_messages_name_flags(true);
}
