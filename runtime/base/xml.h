// What pictures (SVG) need of XML.
#pragma once
#include <string>
#include <string_view>

namespace troupe {

// `text` between two tags: shows as it is. Control characters, which XML has no place for, become spaces.
std::string xml_text(std::string_view text);

}  // namespace troupe
