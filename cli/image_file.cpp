// SPDX-License-Identifier: Apache-2.0
#include "cli/image_file.h"

#include <cairo.h>
#include <fmt/format.h>
#include <librsvg/rsvg.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>

namespace thermocline::cli {
namespace {

tl::unexpected<Failure> cannotWrite(const std::string& path, const char* why) {
    return fail(ExitCode::failure, "SystemError", fmt::format("{} cannot be written: {}", path, why));
}

Expected<void> writeText(const std::string& path, const std::string& text) {
    std::FILE* const file = std::fopen(path.c_str(), "we");
    if (file == nullptr) return cannotWrite(path, std::strerror(errno));
    const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
    const int error = errno;
    if (std::fclose(file) == 0 && written) return {};
    return cannotWrite(path, std::strerror(written ? errno : error));
}

Expected<void> writePng(const std::string& path, const std::string& svg) {
    GError* error = nullptr;
    const std::unique_ptr<RsvgHandle, decltype(&g_object_unref)> image(
        rsvg_handle_new_from_data(reinterpret_cast<const guint8*>(svg.data()), svg.size(), &error),
        &g_object_unref);
    const auto refused = [&] {
        const std::unique_ptr<GError, decltype(&g_error_free)> reason(error, &g_error_free);
        return cannotWrite(path, reason ? reason->message : "the image has no size");
    };
    if (!image) return refused();
    double width = 0;
    double height = 0;
    if (rsvg_handle_get_intrinsic_size_in_pixels(image.get(), &width, &height) == 0) return refused();
    const std::unique_ptr<cairo_surface_t, decltype(&cairo_surface_destroy)> surface(
        cairo_image_surface_create(CAIRO_FORMAT_ARGB32, static_cast<int>(std::ceil(width)),
                                   static_cast<int>(std::ceil(height))),
        &cairo_surface_destroy);
    const std::unique_ptr<cairo_t, decltype(&cairo_destroy)> context(cairo_create(surface.get()),
                                                                     &cairo_destroy);
    const RsvgRectangle all{0, 0, width, height};
    if (rsvg_handle_render_document(image.get(), context.get(), &all, &error) == 0) return refused();
    const auto written = cairo_surface_write_to_png(surface.get(), path.c_str());
    if (written == CAIRO_STATUS_SUCCESS) return {};
    return cannotWrite(path, cairo_status_to_string(written));
}

}  // namespace

std::string xmlText(std::string_view text) {
    std::string result;
    for (const char c : text) {
        switch (c) {
            case '&':
                result += "&amp;";
                break;
            case '<':
                result += "&lt;";
                break;
            case '>':
                result += "&gt;";
                break;
            case '"':
                result += "&quot;";
                break;
            default:
                // XML has no way to write the other control characters.
                result += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
        }
    }
    return result;
}

Expected<void> checkImageFile(const std::string& path) {
    if (path.ends_with(".svg") || path.ends_with(".png")) return {};
    return fail(ExitCode::usage, "InvalidArgument",
                fmt::format("{}: give the image a name that ends with .svg or .png", path));
}

Expected<void> writeImage(const std::string& path, const std::string& svg) {
    return path.ends_with(".png") ? writePng(path, svg) : writeText(path, svg);
}

}  // namespace thermocline::cli
