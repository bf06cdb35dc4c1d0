import java.lang.reflect.Field;
import java.lang.reflect.Modifier;
import java.lang.reflect.ParameterizedType;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Random;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.message.ConsumerProtocolAssignment;
import org.apache.kafka.common.message.ConsumerProtocolSubscription;
import org.apache.kafka.common.message.ControlRecordTypeSchema;
import org.apache.kafka.common.message.EndTxnMarker;
import org.apache.kafka.common.message.RequestHeaderData;
import org.apache.kafka.common.message.ResponseHeaderData;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.TaggedFields;
import org.apache.kafka.common.protocol.types.Type;
import org.apache.kafka.common.record.internal.BaseRecords;
import org.apache.kafka.common.record.internal.MemoryRecords;

/**
 * Prints the bytes that Kafka's own serialiser gives for every message of a broker's listener, in every version.
 *
 * <pre>
 *   mvn -q dependency:copy-dependencies
 *   java -cp 'target/dependency/*' GoldenMessages.java > ../../crates/kafka-wire/fixtures/golden.txt
 * </pre>
 *
 * One line per message: name, version, variant, bytes in hex. The variants:
 *
 * <ul>
 *   <li>{@code default}: as constructed
 *   <li>{@code filled}: every field of the version set to a value from a generator seeded by name and version, two elements
 *       in every array, nothing null
 *   <li>{@code null}: every field that may be null is null, the rest as above with one element
 * </ul>
 *
 * Which fields a version has is asked of Kafka's runtime schemas, not of the definitions our codec is generated from.
 */
public final class GoldenMessages {
    private final short version;
    private final boolean nulls;
    private final Random random;

    private GoldenMessages(String name, short version, boolean nulls) {
        this.version = version;
        this.nulls = nulls;
        this.random = new Random(31L * name.hashCode() + 2L * version + (nulls ? 1 : 0));
    }

    public static void main(String[] arguments) throws Exception {
        for (ApiMessageType type : ApiMessageType.values()) {
            if (type.listeners().contains(ApiMessageType.ListenerType.BROKER)) {
                print(type.newRequest().getClass());
                print(type.newResponse().getClass());
            }
        }
        for (Class<?> type : List.of(RequestHeaderData.class, ResponseHeaderData.class, ControlRecordTypeSchema.class,
                EndTxnMarker.class, ConsumerProtocolSubscription.class, ConsumerProtocolAssignment.class)) {
            print(type);
        }
    }

    private static void print(Class<?> type) throws Exception {
        String name = type.getSimpleName().replaceFirst("Data$", "");
        Message constructed = (Message) type.getConstructor().newInstance();
        for (short version = constructed.lowestSupportedVersion(); version <= constructed.highestSupportedVersion(); version++) {
            print(name, version, "default", constructed);
            print(name, version, "filled", (Message) new GoldenMessages(name, version, false).struct(type));
            print(name, version, "null", (Message) new GoldenMessages(name, version, true).struct(type));
        }
    }

    private static void print(String name, short version, String variant, Message message) {
        byte[] bytes = MessageUtil.byteBufferToArray(MessageUtil.toByteBufferAccessor(message, version).buffer());
        // `-` stands for no bytes at all, so that every line has four words.
        String hex = bytes.length == 0 ? "-" : HexFormat.of().formatHex(bytes);
        System.out.println(name + " " + version + " " + variant + " " + hex);
    }

    private Object struct(Class<?> type) throws Exception {
        Object struct = type.getConstructor().newInstance();
        Map<String, Type> present = fieldsOfVersion(type);
        for (Field field : type.getDeclaredFields()) {
            Type wireType = present.remove(canonical(field.getName()));
            if (wireType == null || Modifier.isStatic(field.getModifiers())) {
                continue;
            }
            field.setAccessible(true);
            field.set(struct, nulls && wireType.isNullable() ? null : value(field, wireType));
        }
        if (!present.isEmpty()) {
            throw new IllegalStateException(type + " has no members for " + present.keySet());
        }
        return struct;
    }

    /** Types by canonical name; fields in the tagged section and outside of it alike. */
    private Map<String, Type> fieldsOfVersion(Class<?> type) throws Exception {
        Schema schema = ((Schema[]) type.getField("SCHEMAS").get(null))[version];
        Map<String, Type> fields = new HashMap<>();
        for (BoundField field : schema.fields()) {
            if (field.def.type instanceof TaggedFields tagged) {
                tagged.fields().values().forEach(inner -> fields.put(canonical(inner.name), inner.type));
            } else {
                fields.put(canonical(field.def.name), field.def.type);
            }
        }
        return fields;
    }

    private static String canonical(String name) {
        return name.replace("_", "").toLowerCase(Locale.ROOT);
    }

    private Object value(Field field, Type wireType) throws Exception {
        Class<?> type = field.getType();
        if (Collection.class.isAssignableFrom(type)) {
            // Lists name their elements in their own type, Kafka's keyed collections in their parent's.
            boolean plain = type == List.class;
            ParameterizedType generic = (ParameterizedType) (plain ? field.getGenericType() : type.getGenericSuperclass());
            Class<?> element = (Class<?>) generic.getActualTypeArguments()[0];
            @SuppressWarnings("unchecked")
            Collection<Object> elements =
                plain ? new ArrayList<>() : (Collection<Object>) type.getConstructor().newInstance();
            for (int count = nulls ? 1 : 2; count > 0; count--) {
                elements.add(scalar(element, null));
            }
            return elements;
        }
        return scalar(type, wireType);
    }

    private Object scalar(Class<?> type, Type wireType) throws Exception {
        if (type == boolean.class) return random.nextBoolean();
        if (type == byte.class || type == Byte.class) return (byte) (1 + random.nextInt(127));
        if (type == short.class || type == Short.class) return (short) (1 + random.nextInt(0x7fff));
        if (type == int.class && wireType == Type.UINT16) return 0x8000 + random.nextInt(0x8000);
        if (type == int.class || type == Integer.class) return random.nextInt();
        if (type == long.class || type == Long.class) return random.nextLong();
        if (type == double.class) return random.nextDouble();
        if (type == String.class) return text();
        if (type == byte[].class) return bytes();
        if (type == ByteBuffer.class) return ByteBuffer.wrap(bytes());
        if (type == Uuid.class) return new Uuid(random.nextLong(), random.nextLong());
        if (type == BaseRecords.class) return MemoryRecords.readableRecords(ByteBuffer.wrap(bytes()));
        return struct(type);
    }

    private byte[] bytes() {
        byte[] bytes = new byte[1 + random.nextInt(24)];
        random.nextBytes(bytes);
        return bytes;
    }

    /** Text of one to four bytes per character. */
    private String text() {
        String[] alphabet = {"a", "Z", "7", "-", ".", "é", "ж", "→", "水", "😀"};
        StringBuilder text = new StringBuilder();
        for (int length = 1 + random.nextInt(10); length > 0; length--) {
            text.append(alphabet[random.nextInt(alphabet.length)]);
        }
        return text.toString();
    }
}
