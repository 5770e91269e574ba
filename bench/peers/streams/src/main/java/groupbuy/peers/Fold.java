package groupbuy.peers;

import com.google.protobuf.InvalidProtocolBufferException;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.api.ContextualFixedKeyProcessor;
import org.apache.kafka.streams.processor.api.FixedKeyProcessorContext;
import org.apache.kafka.streams.processor.api.FixedKeyRecord;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * The fold of bench-peers on Kafka Streams: exactly-once, one thread, totals in RocksDB with a changelog topic.
 *
 * <p>Arguments: bootstrap, application id, input topic, output topic, state directory. Runs until SIGTERM.
 */
public final class Fold {
  private static final String TOTALS = "totals";

  private static final class Totalling extends ContextualFixedKeyProcessor<byte[], byte[], byte[]> {
    private KeyValueStore<byte[], byte[]> store;

    @Override
    public void init(FixedKeyProcessorContext<byte[], byte[]> context) {
      super.init(context);
      store = context.getStateStore(TOTALS);
    }

    @Override
    public void process(FixedKeyRecord<byte[], byte[]> record) {
      byte[] totals;
      try {
        Fact fact = Fact.parseFrom(record.value());
        byte[] found = store.get(record.key());
        Totals before = found == null ? Totals.getDefaultInstance() : Totals.parseFrom(found);
        totals =
            Totals.newBuilder()
                .setFacts(before.getFacts() + 1)
                .setUnits(before.getUnits() + fact.getUnits())
                .setAmountMinor(before.getAmountMinor() + fact.getAmountMinor())
                .build()
                .toByteArray();
      } catch (InvalidProtocolBufferException error) {
        throw new IllegalStateException(error);
      }
      store.put(record.key(), totals);
      context().forward(record.withValue(totals));
    }
  }

  /** Starts the fold. */
  public static void main(String[] given) {
    Properties settings = new Properties();
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, given[0]);
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, given[1]);
    settings.put(StreamsConfig.STATE_DIR_CONFIG, given[4]);
    settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
    settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
    settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 64L * 1024 * 1024);
    // Each setting below was faster than Kafka's default: the peer gets the batches that ours has.
    settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 500);
    settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 20_000);
    settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
    settings.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 512 * 1024);
    settings.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 20);

    StreamsBuilder builder = new StreamsBuilder();
    builder.addStateStore(
        Stores.keyValueStoreBuilder(
                Stores.persistentKeyValueStore(TOTALS), Serdes.ByteArray(), Serdes.ByteArray())
            .withCachingEnabled());
    builder.stream(given[2], Consumed.with(Serdes.ByteArray(), Serdes.ByteArray()))
        .processValues(Totalling::new, TOTALS)
        .to(given[3], Produced.with(Serdes.ByteArray(), Serdes.ByteArray()));
    KafkaStreams streams = new KafkaStreams(builder.build(), settings);
    Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
    streams.setUncaughtExceptionHandler(
        error -> {
          error.printStackTrace();
          Runtime.getRuntime().halt(1);
          return null;
        });
    streams.start();
  }

  private Fold() {}
}
