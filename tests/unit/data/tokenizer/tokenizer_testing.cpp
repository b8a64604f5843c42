#include "tests/unit/data/tokenizer/tokenizer_testing.h"

namespace troupe::data {

const std::string kTestFolder = std::string(TROUPE_SOURCE_DIR) + "/tests/unit/data/tokenizer/";
const std::string kSharedFolder = std::string(TROUPE_SOURCE_DIR) + "/../shared/data/";

}  // namespace troupe::data
