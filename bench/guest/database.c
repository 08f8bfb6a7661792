// SPDX-License-Identifier: Apache-2.0
#include "database.h"

#include <stdarg.h>
#include <stdio.h>

static char error[200];

int database_fail(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error, sizeof error, format, arguments);
    va_end(arguments);
    // It becomes a JSON string.
    for (char* at = error; *at; at++)
        if (*at == '"' || *at == '\\' || (unsigned char)*at < ' ') *at = '\'';
    return -1;
}

const char* database_error(void) {
    return error;
}
