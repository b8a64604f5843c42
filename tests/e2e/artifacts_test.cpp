// What a run leaves behind: run.json, metrics.jsonl, loss.svg, checkpoints that any HDF5 tool opens.
#include <hdf5.h>

#include <boost/json.hpp>
#include <boost/property_tree/xml_parser.hpp>
#include <map>
#include <sstream>

#include "tests/e2e/e2e_test.h"

namespace troupe::e2e {
namespace {

using testing::ElementsAre;

// Every dataset of a file by its name, read as f32 through HDF5, virtual ones included.
std::map<std::string, std::vector<float>> datasets(const std::string& path) {
  std::map<std::string, std::vector<float>> found;
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  EXPECT_GE(file, 0) << path;
  if (file < 0) return found;
  H5Ovisit(
      file, H5_INDEX_NAME, H5_ITER_INC,
      [](hid_t object, const char* name, const H5O_info_t* info, void* into) -> herr_t {
        if (info->type != H5O_TYPE_DATASET) return 0;
        const hid_t dataset = H5Dopen2(object, name, H5P_DEFAULT);
        const hid_t space = H5Dget_space(dataset);
        std::vector<float> values(static_cast<size_t>(H5Sget_simple_extent_npoints(space)));
        EXPECT_GE(H5Dread(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), 0) << name;
        (*static_cast<std::map<std::string, std::vector<float>>*>(into))[name] = std::move(values);
        H5Sclose(space);
        H5Dclose(dataset);
        return 0;
      },
      &found);
  H5Fclose(file);
  return found;
}

class Artifacts : public EndToEnd {
 protected:
  std::vector<boost::json::object> metrics(const std::string& out) const {
    std::vector<boost::json::object> objects;
    std::istringstream lines(read(out + "/metrics.jsonl"));
    for (std::string line; std::getline(lines, line);) objects.push_back(boost::json::parse(line).as_object());
    return objects;
  }
};

TEST_F(Artifacts, EachStepIsALineOfMetrics) {
  train_well("out", {"train.validate_every=8"});
  const auto lines = metrics("out");
  ASSERT_EQ(lines.size(), 20u);
  for (size_t i = 0; i < lines.size(); ++i) {
    const auto& line = lines[i];
    const auto step = static_cast<int64_t>(i) + 1;
    EXPECT_EQ(line.at("step").as_int64(), step);
    EXPECT_EQ(line.at("tokens").as_int64(), step * 4 * 32);
    for (const char* member : {"loss", "tokens_per_second", "step_seconds", "grad_norm", "learning_rate", "mfu"})
      EXPECT_GT(line.at(member).as_double(), 0) << member;
    EXPECT_LT(line.at("mfu").as_double(), 1);
    EXPECT_EQ(line.at("generation").as_int64(), 0);
    EXPECT_EQ(line.contains("validation_loss"), step == 8 || step == 16 || step == 20) << "step " << step;
  }
  EXPECT_LT(lines[19].at("loss").as_double(), lines[0].at("loss").as_double());
}

TEST_F(Artifacts, MetricsEverySoManySteps) {
  train_well("out", {"metrics.every=5"});
  std::vector<int64_t> steps;
  for (const auto& line : metrics("out")) steps.push_back(line.at("step").as_int64());
  EXPECT_THAT(steps, ElementsAre(5, 10, 15, 20));
}

TEST_F(Artifacts, AResumedRunIsOfTheNextGeneration) {
  train_well("out", {"train.steps=2"});
  train_well("out", {"train.steps=4"}, true);
  train_well("out", {"train.steps=5"}, true);
  std::vector<int64_t> generations;
  for (const auto& line : metrics("out")) generations.push_back(line.at("generation").as_int64());
  EXPECT_THAT(generations, ElementsAre(0, 0, 1, 1, 2));
  EXPECT_EQ(boost::json::parse(read("out/run.json")).at("generation").as_int64(), 2);
}

TEST_F(Artifacts, RunJsonTellsTheResolvedConfig) {
  train_well("out", {"train.steps=2"});
  const auto run = boost::json::parse(read("out/run.json")).as_object();
  for (const char* member : {"troupe", "config_file", "device", "layout", "tokenizer"})
    EXPECT_FALSE(run.at(member).as_string().empty()) << member;
  EXPECT_EQ(run.at("seed").as_int64(), 7);
  EXPECT_GT(run.at("parameters").as_int64(), 0);
  const auto& config = run.at("config").as_object();
  EXPECT_EQ(config.at("train").at("steps").as_int64(), 2) << "as --set said";
  EXPECT_EQ(config.at("model").at("width").as_int64(), 32) << "as the file said";
  EXPECT_EQ(config.at("numerics").at("compute").as_string(), "f32") << "the default";
}

TEST_F(Artifacts, TheLossCurveIsWellFormedXml) {
  train_well("out", {"train.validate_every=5"});
  boost::property_tree::ptree tree;
  std::istringstream svg(read("out/loss.svg"));
  ASSERT_NO_THROW(boost::property_tree::read_xml(svg, tree));
  EXPECT_EQ(tree.get<std::string>("svg.<xmlattr>.xmlns"), "http://www.w3.org/2000/svg");
}

TEST_F(Artifacts, AnyHdf5ToolReadsTheCheckpoint) {
  train_well("out", {"train.steps=2"});
  const std::string folder = checkpoint("out", 2);
  const auto shard = datasets(path(folder + "/shard-00000.h5"));
  const auto model = datasets(path(folder + "/model.h5"));
  const auto manifest = boost::json::parse(read(folder + "/manifest.json"));
  size_t of_model = 0;
  for (const auto& record : manifest.at("tensors").as_array()) {
    const std::string name(record.at("name").as_string());
    size_t elements = 1;
    for (const auto& size : record.at("shape").as_array()) elements *= size.to_number<size_t>();
    ASSERT_TRUE(shard.contains(name)) << name;
    EXPECT_EQ(shard.at(name).size(), elements) << name;
    if (!name.starts_with("model/")) continue;
    ++of_model;
    const std::string short_name = name.substr(6);
    ASSERT_TRUE(model.contains(short_name)) << short_name;
    EXPECT_EQ(model.at(short_name), shard.at(name)) << name;
    EXPECT_TRUE(std::ranges::any_of(model.at(short_name), [](float x) { return x != 0; })) << name;
  }
  EXPECT_EQ(model.size(), of_model);
  EXPECT_EQ(shard.size(), manifest.at("tensors").as_array().size());
  EXPECT_EQ(shard.size(), 3 * of_model);
}

TEST_F(Artifacts, OnlyTheNewestCheckpointsAreKept) {
  train_well("out", {"checkpoint.every=4", "checkpoint.keep=2"});
  EXPECT_THAT(list("out/checkpoints"), ElementsAre("step-00000016", "step-00000020"));
  train_well("all", {"checkpoint.every=4", "checkpoint.keep=0"});
  EXPECT_EQ(list("all/checkpoints").size(), 5u);
}

TEST_F(Artifacts, DoctorTellsOfTheMachine) {
  const Outcome text = troupe({"doctor"});
  EXPECT_EQ(text.exit_code, 0) << describe(text);
  EXPECT_EQ(text.err, "");
  const Outcome outcome = troupe({"doctor", "--json"});
  EXPECT_EQ(outcome.exit_code, 0) << describe(outcome);
  const auto findings = boost::json::parse(outcome.out).as_array();
  EXPECT_GE(findings.size(), 5u);
  for (const auto& finding : findings) {
    EXPECT_THAT(text.out, testing::HasSubstr(std::string(finding.at("name").as_string())));
    EXPECT_TRUE(finding.at("ok").is_bool());
    EXPECT_FALSE(finding.at("detail").as_string().empty());
  }
}

}  // namespace
}  // namespace troupe::e2e
