// SPDX-License-Identifier: Apache-2.0
#pragma once

// Writes what is drawn as SVG into a file: as it is, or as the picture that it describes. The file's name
// says which. Plain functions; any thread.

#include <string>
#include <string_view>

#include "cli/failure.h"

namespace thermocline::cli {

/// Text or an attribute's value, as SVG needs it written. libvirt lets a domain's name have nearly any
/// character.
std::string xmlText(std::string_view text);
/// Does the name end with .svg or .png? Failure: usage, saying so.
Expected<void> checkImageFile(const std::string& path);
/// Failure: SystemError; a file that was begun may be left behind.
Expected<void> writeImage(const std::string& path, const std::string& svg);

}  // namespace thermocline::cli
