"""Who is connected to the demo's node and what they make: tables, nothing that runs.

Modelled on the national top-level node in Wuhan: 7 secondary nodes and 25 enterprise nodes connected, 5 more
secondary nodes planned. Every company, host name, prefix and product here is invented; class codes are those of
GB/T 4754-2017; addresses are from the documentation ranges of RFC 5737.
"""

from typing import Final

from msgspec import Struct

from resolver.handle import CaseRule
from resolver.routes import Endpoint, Hosting, Prefix, Protocol


class Product(Struct, frozen=True):
    """A type of thing that gets serial numbers."""

    model: str
    name: str
    spec: str


class Industry(Struct, frozen=True, kw_only=True):
    """What one kind of maker registers.

    `suffix`, `lot` and `inspection` are formats over class_code, model, date, line and serial; a suffix says model,
    day, line and serial, so that no two are the same. `inspection` is the restricted value, empty where none is kept.
    `material` is the prefix of the enterprise whose product goes in.
    """

    class_code: str
    suffix: str
    lot: str
    products: tuple[Product, ...]
    inspection: str = ""
    material: str = ""


class Enterprise(Struct, frozen=True, kw_only=True):
    """An enterprise with a prefix. `weight` is its share of all registrations, relative to the others'.

    Without `address` it has no node of its own: its records have their authority here.
    """

    prefix: str
    maker: str
    industry: Industry
    weight: int
    address: str = ""
    protocol: Protocol = Protocol.GRPC
    case: CaseRule = CaseRule.INSENSITIVE

    @property
    def host(self) -> str:
        return f"id.{self.prefix.replace('.', '-')}.example"

    @property
    def allocation(self) -> Prefix:
        """The row of its prefix."""
        port = _PORTS[self.protocol]
        endpoints = (Endpoint(self.protocol, self.address, port, 0, self.host),) if self.address else ()
        hosting = Hosting.DELEGATED if self.address else Hosting.HERE
        return Prefix(self.prefix, self.prefix, case=self.case, hosting=hosting, endpoints=endpoints)


class Secondary(Struct, frozen=True, kw_only=True):
    """A secondary node with the enterprises below it."""

    prefix: str
    name: str
    address: str
    enterprises: tuple[Enterprise, ...]

    @property
    def allocation(self) -> Prefix:
        """The row of its prefix: always delegated, with a second endpoint for when the first does not answer."""
        host = f"resolver.{self.prefix.replace('.', '-')}.example"
        endpoints = (
            Endpoint(Protocol.GRPC, self.address, _PORTS[Protocol.GRPC], 0, host),
            Endpoint(Protocol.HANDLE_TCP, self.address, _PORTS[Protocol.HANDLE_TCP], 10),
        )
        return Prefix(self.prefix, self.prefix, hosting=Hosting.DELEGATED, endpoints=endpoints)


_PORTS: Final = {
    Protocol.GRPC: 3641,
    Protocol.HANDLE_TCP: 2641,
    Protocol.HANDLE_UDP: 2641,
    Protocol.HTTP: 8000,
}
"""Where each protocol is spoken by habit; 2641 is the Handle System's registered port."""


# --- what is made ------------------------------------------------------------------------------------------------

BEARINGS: Final = Industry(
    class_code="3451",
    suffix="{class_code}01-{model}-{date:%y%m%d}{line}-{serial}",
    lot="{date:%y%m%d}{line}",
    products=(
        Product("6208ZZ", "深沟球轴承", "40x80x18 mm, GCr15, P6"),
        Product("7014C", "角接触球轴承", "70x110x20 mm, GCr15, P4"),
        Product("22312CC", "调心滚子轴承", "60x130x46 mm, GCr15SiMn"),
    ),
)
VALVES: Final = Industry(
    class_code="3443",
    suffix="{class_code}02.{model}.{date:%Y%m%d}.{line}{serial}",
    lot="{date:%Y%m%d}-{line}",
    products=(
        Product("J41H-16C", "法兰截止阀", "DN50, PN16, WCB"),
        Product("Q41F-25P", "不锈钢球阀", "DN80, PN25, CF8"),
        Product("Z45X-10Q", "软密封闸阀", "DN200, PN10, QT450"),
    ),
)
GEARBOXES: Final = Industry(
    class_code="3453",
    suffix="{class_code}01/{model}/{date:%y%m%d}/{line}/{serial}",
    lot="{date:%y%m%d}/{line}",
    products=(
        Product("RX87", "斜齿轮减速机", "i=24.92, 7.5 kW"),
        Product("KA107", "锥齿轮减速机", "i=35.60, 15 kW"),
    ),
)
OPTICAL_MODULES: Final = Industry(
    class_code="3976",
    suffix="{class_code}02/{model}/{date:%y%m%d}{line}/M{serial}",
    lot="{date:%y%m%d}{line}",
    products=(
        Product("SFP28-LR", "25G 单模光模块", "1310 nm, 10 km, LC"),
        Product("QSFP28-LR4", "100G 光模块", "CWDM 1295-1310 nm, 10 km, LC"),
        Product("QDD-400G-FR4", "400G 光模块", "CWDM4, 2 km, PAM4"),
        Product("OSFP-800G-DR8", "800G 光模块", "1310 nm, 500 m, MPO-16"),
    ),
)
LASER_CHIPS: Final = Industry(
    class_code="3976",
    suffix="{class_code}01-{model}-W{date:%y%m%d}-{line}.{serial}",
    lot="晶圆 W{date:%y%m%d}-{line}",
    products=(
        Product("DFB1310-25", "25G DFB 激光器芯片", "1310 nm, InP, 8 mA"),
        Product("EML1550-50", "50G EML 激光器芯片", "1550 nm, InP, 20 mA"),
    ),
    inspection="阈值电流 7.9 mA, 老化 96 h 合格, 位置 {serial}",
)
VEGETABLES: Final = Industry(
    class_code="1371",
    suffix="{class_code}:{date:%Y%m%d}:{model}:{line}{serial}",
    lot="{date:%Y%m%d}{line}",
    products=(
        Product("LP500", "即食藕片", "500 g, 冷藏 0-4 °C, 保质期 90 天"),
        Product("ZJ250", "盐渍竹笋", "250 g, 常温, 保质期 12 个月"),
    ),
)
CRAYFISH: Final = Industry(
    class_code="1361",
    suffix="{class_code}:{date:%Y%m%d}:{model}:{line}{serial}",
    lot="{date:%Y%m%d}{line}",
    products=(
        Product("XLX-M", "冷冻小龙虾(中)", "1 kg, -18 °C, 4-6 钱"),
        Product("XLX-L", "冷冻小龙虾(大)", "1 kg, -18 °C, 6-8 钱"),
        Product("XLW", "冷冻虾尾", "500 g, -18 °C"),
    ),
    inspection="菌落总数 <1e5 CFU/g, 兽药残留未检出, 报告 {date:%y%m%d}{line}-{serial}",
)
TEA: Final = Industry(
    class_code="1530",
    # Registered in small letters: their canonical keys are not as they are spelled.
    suffix="lot-{model}-{date:%y%m%d}{line}-{serial}",
    lot="{date:%y%m%d}{line}",
    products=(
        Product("maojian", "毛尖绿茶", "一级, 250 g"),
        Product("qingzhuan", "青砖茶", "二等, 1.7 kg"),
    ),
)
BRAKES: Final = Industry(
    class_code="3670",
    suffix="{class_code}02.{model}.{date:%y%m%d}.{line}.{serial}",
    lot="{date:%y%m%d}.{line}",
    products=(
        Product("BC215A", "前制动钳总成", "活塞 57 mm, 左"),
        Product("BC215B", "前制动钳总成", "活塞 57 mm, 右"),
        Product("BD302", "通风制动盘", "302x28 mm, HT250"),
    ),
    material="88.166.3",
)
HARNESSES: Final = Industry(
    class_code="3670",
    suffix="{class_code}05-{model}-{date:%y%j}{line}{serial}",
    lot="{date:%y%j}{line}",
    products=(
        Product("WH-CAB-12", "驾驶室线束", "12 V, 184 回路"),
        Product("WH-BAT-400", "高压电池线束", "400 V, 2x50 mm2"),
    ),
)
LAMPS: Final = Industry(
    class_code="3670",
    suffix="{class_code}07.{model}.{date:%y%m%d}.{line}{serial}",
    lot="{date:%y%m%d}{line}",
    products=(
        Product("HL-E3-L", "LED 前照灯(左)", "13.5 V, 42 W, 自适应远光"),
        Product("HL-E3-R", "LED 前照灯(右)", "13.5 V, 42 W, 自适应远光"),
    ),
)
STEEL: Final = Industry(
    class_code="3130",
    suffix="{class_code}({model}){date:%y%m%d}{line}-{serial}",
    lot="炉号 {date:%y%m%d}{line}",
    products=(
        Product("DC01", "冷轧钢卷", "1.0x1250 mm"),
        Product("HC340LA", "高强冷轧钢卷", "1.5x1250 mm"),
        Product("DX51D+Z", "热镀锌钢卷", "0.8x1000 mm, Z120"),
    ),
    inspection="Rm 352 MPa, A80 38 %, 质保书 {date:%y%m%d}{line}{serial}",
)
INSTRUMENTS: Final = Industry(
    class_code="3584",
    suffix="{class_code}+{model}+{date:%y%m%d}{line}+{serial}",
    lot="{date:%y%m%d}{line}",
    products=(
        Product("ForcepsG3", "活检钳", "直径 2.3 mm, 长 1600 mm"),
        Product("StaplerS60", "吻合器", "60 mm, 3 排钉"),
    ),
    inspection="灭菌 EO, 批 {date:%y%m%d}{line}, 无菌检查 {serial}",
)
CABLES: Final = Industry(
    class_code="3833",
    suffix="{class_code}*{model}*{date:%y%m%d}{line}*{serial}",
    lot="{date:%y%m%d}{line}",
    products=(
        Product("GYTA53-24B1", "直埋光缆", "24 芯 G.652D, 2 km/盘"),
        Product("GYXTW-12B1", "中心管式光缆", "12 芯 G.652D, 3 km/盘"),
        Product("ADSS-48B1", "全介质自承光缆", "48 芯, 跨距 200 m"),
    ),
)
VEHICLES: Final = Industry(
    class_code="3612",
    suffix="{class_code}.{model}.{date:%y%m%d}.{line}{serial}",
    lot="{date:%y%m%d}{line}",
    products=(
        Product("EV5-520", "纯电动乘用车", "60 kWh, 520 km"),
        Product("EV7-610", "纯电动多用途车", "82 kWh, 610 km"),
    ),
)
TRANSMISSION: Final = Industry(
    class_code="3921",
    suffix="{class_code}/{model}/{date:%y%m%d}/{line}{serial}",
    lot="{date:%y%m%d}{line}",
    products=(
        Product("OTN-9600", "光传送设备", "96 波, 400G"),
        Product("OLT-16XG", "光线路终端", "16 口 XGS-PON"),
    ),
)
DAIRY: Final = Industry(
    class_code="1441",
    suffix="{class_code}:{date:%Y%m%d}:{model}:{line}{serial}",
    lot="{date:%Y%m%d}{line}",
    products=(
        Product("UHT250", "灭菌乳", "250 mL, 常温, 保质期 6 个月"),
        Product("PAS950", "巴氏杀菌乳", "950 mL, 2-6 °C, 保质期 7 天"),
    ),
)
BIOLOGICALS: Final = Industry(
    class_code="2761",
    suffix="{class_code}-{model}-{date:%Y%m%d}{line}-{serial}",
    lot="{date:%Y%m%d}{line}",
    products=(
        Product("HALB10", "人血白蛋白", "10 g/瓶, 2-8 °C"),
        Product("IVIG5", "静注人免疫球蛋白", "5 g/瓶, 2-8 °C"),
    ),
    inspection="批签发 {date:%Y%m%d}{line}, 瓶 {serial}",
)
MARINE: Final = Industry(
    class_code="3734",
    suffix="{class_code}({model}){date:%y%m%d}-{line}{serial}",
    lot="{date:%y%m%d}-{line}",
    products=(
        Product("WX6-320", "船用柴油机", "6 缸, 缸径 320 mm"),
        Product("SG-90", "舵机", "90 kN.m, 双缸"),
    ),
)


# --- who is connected --------------------------------------------------------------------------------------------

SECONDARY_NODES: Final = (
    Secondary(
        prefix="88.101",
        name="装备制造行业节点",
        address="192.0.2.11",
        enterprises=(
            Enterprise(prefix="88.101.42", maker="江城轴衡精密轴承有限公司", industry=BEARINGS, weight=6),
            # Another enterprise than the one before: segments are text.
            Enterprise(
                prefix="88.101.0042",
                maker="楚砺阀门制造有限公司",
                industry=VALVES,
                weight=4,
                address="198.51.100.42",
            ),
            Enterprise(prefix="88.101.7", maker="云齿传动有限公司", industry=GEARBOXES, weight=2),
            Enterprise(
                prefix="88.101.118",
                maker="荆岭滚子轴承股份有限公司",
                industry=BEARINGS,
                weight=4,
                address="198.51.100.18",
                protocol=Protocol.HANDLE_TCP,
            ),
        ),
    ),
    Secondary(
        prefix="88.111",
        name="光电子行业节点",
        address="192.0.2.21",
        enterprises=(
            Enterprise(prefix="88.111.1", maker="晨澜光模块有限公司", industry=OPTICAL_MODULES, weight=10),
            Enterprise(
                prefix="88.111.2",
                maker="星桥光器件股份有限公司",
                industry=OPTICAL_MODULES,
                weight=7,
                address="198.51.100.52",
            ),
            Enterprise(
                prefix="88.111.15",
                maker="磷芯半导体激光有限公司",
                industry=LASER_CHIPS,
                weight=6,
                address="198.51.100.65",
            ),
            Enterprise(prefix="88.111.31", maker="汀波光电有限公司", industry=OPTICAL_MODULES, weight=3),
            Enterprise(
                prefix="88.111.204",
                maker="启昀激光芯片有限公司",
                industry=LASER_CHIPS,
                weight=2,
                address="id.88-111-204.example",
                protocol=Protocol.HTTP,
            ),
        ),
    ),
    Secondary(
        prefix="88.127",
        name="农产品加工行业节点",
        address="192.0.2.31",
        enterprises=(
            Enterprise(prefix="88.127.8", maker="荷汀莲乡食品有限公司", industry=VEGETABLES, weight=5),
            Enterprise(
                prefix="88.127.19",
                maker="潜汀水产冷链有限公司",
                industry=CRAYFISH,
                weight=6,
                address="198.51.100.79",
            ),
            Enterprise(prefix="88.127.20", maker="雾峁茶业有限公司", industry=TEA, weight=3),
            Enterprise(
                prefix="88.127.333",
                maker="沔田蔬菜加工有限公司",
                industry=VEGETABLES,
                weight=3,
                address="198.51.100.83",
            ),
        ),
    ),
    Secondary(
        prefix="88.133",
        name="汽车零部件行业节点",
        address="192.0.2.41",
        enterprises=(
            Enterprise(
                prefix="88.133.12",
                maker="襄岘制动系统有限公司",
                industry=BRAKES,
                weight=8,
                address="198.51.100.112",
            ),
            Enterprise(prefix="88.133.13", maker="岭驰制动部件有限公司", industry=BRAKES, weight=5),
            Enterprise(
                prefix="88.133.27",
                maker="汉沔线束科技有限公司",
                industry=HARNESSES,
                weight=5,
                address="198.51.100.127",
            ),
            Enterprise(prefix="88.133.61", maker="明瞳车灯有限公司", industry=LAMPS, weight=4),
            Enterprise(
                prefix="88.133.0008",
                maker="十方车用线束有限公司",
                industry=HARNESSES,
                weight=2,
                address="198.51.100.108",
            ),
        ),
    ),
    Secondary(
        prefix="88.166",
        name="钢铁与新材料行业节点",
        address="192.0.2.51",
        enterprises=(
            Enterprise(
                prefix="88.166.3", maker="矶港钢材有限公司", industry=STEEL, weight=4, address="198.51.100.163"
            ),
            Enterprise(prefix="88.166.90", maker="鄂沚冷轧板带有限公司", industry=STEEL, weight=2),
        ),
    ),
    Secondary(
        prefix="88.1021",
        name="医疗器械行业节点",
        address="192.0.2.61",
        enterprises=(
            Enterprise(
                prefix="88.1021.150",
                maker="康桁微创器械有限公司",
                industry=INSTRUMENTS,
                weight=3,
                case=CaseRule.SENSITIVE,
            ),
            Enterprise(
                prefix="88.1021.151",
                maker="济沔医用器材有限公司",
                industry=INSTRUMENTS,
                weight=2,
                address="198.51.100.151",
            ),
        ),
    ),
    Secondary(
        prefix="88.1107",
        name="线缆行业节点",
        address="192.0.2.71",
        enterprises=(
            Enterprise(
                prefix="88.1107.5", maker="虹跨光缆有限公司", industry=CABLES, weight=2, address="198.51.100.175"
            ),
            Enterprise(prefix="88.1107.6", maker="云沚通信线缆有限公司", industry=CABLES, weight=1),
            Enterprise(
                prefix="88.1107.77",
                maker="岚溪特种光缆有限公司",
                industry=CABLES,
                weight=1,
                address="198.51.100.177",
            ),
        ),
    ),
)
"""The secondary nodes that are connected."""

PLANNED_NODES: Final = (
    Secondary(
        prefix="88.1210",
        name="智能网联汽车行业节点",
        address="192.0.2.121",
        enterprises=(
            Enterprise(prefix="88.1210.1", maker="澜桁新能源汽车有限公司", industry=VEHICLES, weight=1),
            Enterprise(
                prefix="88.1210.2",
                maker="云沔智行汽车有限公司",
                industry=VEHICLES,
                weight=1,
                address="198.51.100.212",
            ),
        ),
    ),
    Secondary(
        prefix="88.1220",
        name="光通信行业节点",
        address="192.0.2.122",
        enterprises=(
            Enterprise(
                prefix="88.1220.1",
                maker="霄桁光传输设备有限公司",
                industry=TRANSMISSION,
                weight=1,
                address="198.51.100.221",
            ),
            Enterprise(prefix="88.1220.2", maker="珞砚接入网设备有限公司", industry=TRANSMISSION, weight=1),
        ),
    ),
    Secondary(
        prefix="88.1230",
        name="食品行业节点",
        address="192.0.2.123",
        enterprises=(
            Enterprise(prefix="88.1230.1", maker="鹭汀乳业有限公司", industry=DAIRY, weight=1),
            Enterprise(
                prefix="88.1230.2", maker="溪谷源乳品有限公司", industry=DAIRY, weight=1, address="198.51.100.232"
            ),
        ),
    ),
    Secondary(
        prefix="88.1240",
        name="生物医药行业节点",
        address="192.0.2.124",
        enterprises=(
            Enterprise(
                prefix="88.1240.1",
                maker="荆沚血液制品有限公司",
                industry=BIOLOGICALS,
                weight=1,
                address="198.51.100.241",
            ),
            Enterprise(prefix="88.1240.2", maker="沐砾生物制药有限公司", industry=BIOLOGICALS, weight=1),
        ),
    ),
    Secondary(
        prefix="88.1250",
        name="船舶与海洋工程装备行业节点",
        address="192.0.2.125",
        enterprises=(
            Enterprise(prefix="88.1250.1", maker="夏汭船用动力有限公司", industry=MARINE, weight=1),
            Enterprise(
                prefix="88.1250.2",
                maker="蒲矶船舶机械有限公司",
                industry=MARINE,
                weight=1,
                address="198.51.100.252",
            ),
        ),
    ),
)
"""The secondary nodes that are planned; in the demo they join while the node runs."""
