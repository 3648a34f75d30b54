// A participant of Fast DDS that does what lines on its standard input say, and prints what happens to it.
//
//   peer DOMAIN LEASE_S
//
// Loopback alone, by UDP, without multicast: others are looked for at the ports of their first numbers.
//
//   publish   TOPIC TYPE RELIABILITY DURABILITY DEPTH     a writer
//   subscribe TOPIC RELIABILITY DURABILITY DEPTH          a reader of predictions
//   write     TOPIC MESSAGE
//   bytes     TYPE MESSAGE                                prints the message as it is serialized
//
// TYPE is imu or joints, of bytes also tf; RELIABILITY reliable or best_effort, DURABILITY volatile or transient_local. A MESSAGE is its
// fields in order; words are in quotes, and a sequence begins with its length.
//
//   ready | matched TOPIC PEERS | incompatible TOPIC POLICY | wrote TOPIC | prediction TOPIC JSON | bytes HEX | error TEXT

#include <fastdds/dds/domain/DomainParticipant.hpp>
#include <fastdds/dds/domain/DomainParticipantFactory.hpp>
#include <fastdds/dds/publisher/DataWriter.hpp>
#include <fastdds/dds/publisher/DataWriterListener.hpp>
#include <fastdds/dds/publisher/Publisher.hpp>
#include <fastdds/dds/subscriber/DataReader.hpp>
#include <fastdds/dds/subscriber/DataReaderListener.hpp>
#include <fastdds/dds/subscriber/SampleInfo.hpp>
#include <fastdds/dds/subscriber/Subscriber.hpp>
#include <fastdds/rtps/transport/UDPv4TransportDescriptor.h>
#include <fastrtps/utils/IPLocator.h>

#include <array>
#include <iomanip>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "ros_messagesPubSubTypes.h"

using namespace eprosima::fastdds::dds;
using eprosima::fastrtps::Duration_t;
using Header = std_msgs::msg::dds_::Header_;
using Imu = sensor_msgs::msg::dds_::Imu_;
using Joints = sensor_msgs::msg::dds_::JointState_;
using Transforms = tf2_msgs::msg::dds_::TFMessage_;
using Prediction = statestream_msgs::msg::dds_::Prediction_;

namespace {

void say(const std::string& line) {
    static std::mutex mutex;
    std::lock_guard<std::mutex> lock(mutex);
    std::cout << line << std::endl;
}

std::string word(std::istream& in) {
    std::string value;
    in >> std::quoted(value);
    return value;
}

double number(std::istream& in) {
    double value = 0;
    in >> value;
    return value;
}

std::vector<double> numbers(std::istream& in, size_t count) {
    std::vector<double> values(count);
    for (double& value : values) value = number(in);
    return values;
}

std::vector<double> sequence(std::istream& in) {
    return numbers(in, static_cast<size_t>(number(in)));
}

Header header(std::istream& in) {
    Header value;
    long sec = 0;
    unsigned long nanosec = 0;
    in >> sec >> nanosec;
    value.stamp().sec(static_cast<int32_t>(sec));
    value.stamp().nanosec(static_cast<uint32_t>(nanosec));
    value.frame_id(word(in));
    return value;
}

std::array<double, 9> covariance(std::istream& in) {
    std::array<double, 9> values{};
    for (double& value : values) value = number(in);
    return values;
}

geometry_msgs::msg::dds_::Vector3_ vector3(std::istream& in) {
    const auto values = numbers(in, 3);
    geometry_msgs::msg::dds_::Vector3_ value;
    value.x(values[0]);
    value.y(values[1]);
    value.z(values[2]);
    return value;
}

geometry_msgs::msg::dds_::Quaternion_ quaternion(std::istream& in) {
    const auto values = numbers(in, 4);
    geometry_msgs::msg::dds_::Quaternion_ value;
    value.x(values[0]);
    value.y(values[1]);
    value.z(values[2]);
    value.w(values[3]);
    return value;
}

void read(std::istream& in, Imu& message) {
    message.header(header(in));
    message.orientation(quaternion(in));
    message.orientation_covariance(covariance(in));
    message.angular_velocity(vector3(in));
    message.angular_velocity_covariance(covariance(in));
    message.linear_acceleration(vector3(in));
    message.linear_acceleration_covariance(covariance(in));
}

void read(std::istream& in, Joints& message) {
    message.header(header(in));
    std::vector<std::string> names(static_cast<size_t>(number(in)));
    for (std::string& name : names) name = word(in);
    message.name(names);
    message.position(sequence(in));
    message.velocity(sequence(in));
    message.effort(sequence(in));
}

void read(std::istream& in, Transforms& message) {
    std::vector<geometry_msgs::msg::dds_::TransformStamped_> values(static_cast<size_t>(number(in)));
    for (auto& value : values) {
        value.header(header(in));
        value.child_frame_id(word(in));
        value.transform().translation(vector3(in));
        value.transform().rotation(quaternion(in));
    }
    message.transforms(values);
}

template <typename Message>
Message message_of(std::istream& in) {
    Message message;
    read(in, message);
    if (in.fail()) throw std::runtime_error("a message lacks fields");
    return message;
}

template <typename Support, typename Message>
std::string bytes_of(std::istream& in) {
    Message message = message_of<Message>(in);
    Support support;
    eprosima::fastrtps::rtps::SerializedPayload_t payload(support.getSerializedSizeProvider(&message)());
    if (!support.serialize(&message, &payload)) throw std::runtime_error("cannot serialize");
    std::ostringstream out;
    out << std::hex << std::setfill('0');
    for (uint32_t k = 0; k < payload.length; ++k) out << std::setw(2) << int(payload.data[k]);
    return out.str();
}

template <typename Values, typename Show>
void list(std::ostream& out, const Values& values, Show show) {
    out << '[';
    for (size_t k = 0; k < values.size(); ++k) {
        if (k) out << ", ";
        show(values[k]);
    }
    out << ']';
}

std::string json(const Prediction& message) {
    std::ostringstream out;
    out << std::setprecision(9);
    out << "{\"sec\": " << message.header().stamp().sec() << ", \"nanosec\": " << message.header().stamp().nanosec()
        << ", \"frame_id\": " << std::quoted(message.header().frame_id()) << ", \"model\": " << std::quoted(message.model())
        << ", \"session\": " << std::quoted(message.session()) << ", \"verdict\": " << std::quoted(message.verdict())
        << ", \"dt_s\": " << message.dt_s() << ", \"class_name\": " << std::quoted(message.class_name()) << ", \"labels\": ";
    list(out, message.labels(), [&](const std::string& label) { out << std::quoted(label); });
    out << ", \"y\": ";
    list(out, message.y(), [&](float value) { out << value; });
    out << '}';
    return out.str();
}

class WriterEvents : public DataWriterListener {
public:
    explicit WriterEvents(std::string topic) : topic_(std::move(topic)) {}
    void on_publication_matched(DataWriter*, const PublicationMatchedStatus& status) override {
        say("matched " + topic_ + " " + std::to_string(status.current_count));
    }
    void on_offered_incompatible_qos(DataWriter*, const OfferedIncompatibleQosStatus& status) override {
        say("incompatible " + topic_ + " " + std::to_string(status.last_policy_id));
    }

private:
    std::string topic_;
};

class ReaderEvents : public DataReaderListener {
public:
    explicit ReaderEvents(std::string topic) : topic_(std::move(topic)) {}
    void on_data_available(DataReader* reader) override {
        Prediction message;
        SampleInfo info;
        while (reader->take_next_sample(&message, &info) == ReturnCode_t::RETCODE_OK)
            if (info.valid_data) say("prediction " + topic_ + " " + json(message));
    }
    void on_subscription_matched(DataReader*, const SubscriptionMatchedStatus& status) override {
        say("matched " + topic_ + " " + std::to_string(status.current_count));
    }
    void on_requested_incompatible_qos(DataReader*, const RequestedIncompatibleQosStatus& status) override {
        say("incompatible " + topic_ + " " + std::to_string(status.last_policy_id));
    }

private:
    std::string topic_;
};

DomainParticipant* participant_of(uint32_t domain, int32_t lease_s) {
    DomainParticipantQos qos = PARTICIPANT_QOS_DEFAULT;
    auto udp = std::make_shared<eprosima::fastdds::rtps::UDPv4TransportDescriptor>();
    udp->interfaceWhiteList.push_back("127.0.0.1");
    qos.transport().use_builtin_transports = false;
    qos.transport().user_transports.push_back(udp);
    eprosima::fastrtps::rtps::Locator_t loopback;
    eprosima::fastrtps::rtps::IPLocator::setIPv4(loopback, "127.0.0.1");
    auto& builtin = qos.wire_protocol().builtin;
    builtin.initialPeersList.push_back(loopback);
    builtin.discovery_config.leaseDuration = Duration_t(lease_s, 0);
    builtin.discovery_config.leaseDuration_announcementperiod = Duration_t(0, 250000000);
    return DomainParticipantFactory::get_instance()->create_participant(domain, qos);
}

// Reliability, durability and depth, the next words of a line, into the settings of a reader or writer.
template <typename Qos>
void set_policies(std::istream& in, Qos& qos) {
    const std::string reliability = word(in), durability = word(in);
    qos.reliability().kind = reliability == "reliable" ? RELIABLE_RELIABILITY_QOS : BEST_EFFORT_RELIABILITY_QOS;
    qos.durability().kind = durability == "volatile" ? VOLATILE_DURABILITY_QOS : TRANSIENT_LOCAL_DURABILITY_QOS;
    qos.history().kind = KEEP_LAST_HISTORY_QOS;
    qos.history().depth = static_cast<int32_t>(number(in));
    qos.endpoint().history_memory_policy = eprosima::fastrtps::rtps::PREALLOCATED_WITH_REALLOC_MEMORY_MODE;
}

class Peer {
public:
    Peer(uint32_t domain, int32_t lease_s) : participant_(participant_of(domain, lease_s)) {
        if (participant_ == nullptr) throw std::runtime_error("no participant");
        publisher_ = participant_->create_publisher(PUBLISHER_QOS_DEFAULT);
        subscriber_ = participant_->create_subscriber(SUBSCRIBER_QOS_DEFAULT);
    }

    void obey(const std::string& line) {
        std::istringstream in(line);
        const std::string command = word(in), name = word(in);
        if (command == "publish") publish(name, in);
        else if (command == "subscribe") subscribe(name, in);
        else if (command == "write") write(name, in);
        else if (command == "bytes") say("bytes " + bytes(name, in));
        else throw std::runtime_error("no command: " + line);
    }

private:
    static std::string bytes(const std::string& type, std::istream& in) {
        if (type == "imu") return bytes_of<sensor_msgs::msg::dds_::Imu_PubSubType, Imu>(in);
        if (type == "joints") return bytes_of<sensor_msgs::msg::dds_::JointState_PubSubType, Joints>(in);
        if (type == "tf") return bytes_of<tf2_msgs::msg::dds_::TFMessage_PubSubType, Transforms>(in);
        throw std::runtime_error("no type " + type);
    }

    Topic* topic(const std::string& name, TypeSupport type) {
        type.register_type(participant_);
        return participant_->create_topic(name, type.get_type_name(), TOPIC_QOS_DEFAULT);
    }

    void publish(const std::string& name, std::istream& in) {
        const std::string type = word(in);
        TypeSupport support(type == "imu" ? static_cast<TopicDataType*>(new sensor_msgs::msg::dds_::Imu_PubSubType())
                                          : new sensor_msgs::msg::dds_::JointState_PubSubType());
        DataWriterQos qos = DATAWRITER_QOS_DEFAULT;
        set_policies(in, qos);
        types_[name] = type;
        writers_[name] = publisher_->create_datawriter(topic(name, support), qos, new WriterEvents(name));
        if (writers_[name] == nullptr) throw std::runtime_error("no writer of " + name);
    }

    void subscribe(const std::string& name, std::istream& in) {
        DataReaderQos qos = DATAREADER_QOS_DEFAULT;
        set_policies(in, qos);
        TypeSupport support(new statestream_msgs::msg::dds_::Prediction_PubSubType());
        if (subscriber_->create_datareader(topic(name, support), qos, new ReaderEvents(name)) == nullptr)
            throw std::runtime_error("no reader of " + name);
    }

    void write(const std::string& name, std::istream& in) {
        if (types_.at(name) == "imu") write_message(name, message_of<Imu>(in));
        else write_message(name, message_of<Joints>(in));
        say("wrote " + name);
    }

    template <typename Message>
    void write_message(const std::string& name, Message message) {
        if (!writers_.at(name)->write(&message)) throw std::runtime_error("cannot write to " + name);
    }

    DomainParticipant* participant_;
    Publisher* publisher_;
    Subscriber* subscriber_;
    std::map<std::string, DataWriter*> writers_;
    std::map<std::string, std::string> types_;
};

}  // namespace

int main(int count, char** words) {
    if (count != 3) {
        std::cerr << "peer DOMAIN LEASE_S" << std::endl;
        return 2;
    }
    Peer peer(static_cast<uint32_t>(std::stoul(words[1])), std::stoi(words[2]));
    say("ready");
    for (std::string line; std::getline(std::cin, line);) {
        try {
            peer.obey(line);
        } catch (const std::exception& error) {
            say(std::string("error ") + error.what());
        }
    }
    return 0;
}
